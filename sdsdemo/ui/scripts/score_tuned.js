() => { // only if Compare was opened: the run may have had no model
  const score = document.getElementById('score');
  if (!score?.offsetParent) return;
  window.scrollTo(0, 0);
  setTimeout(() => score.click(), 250);
}
