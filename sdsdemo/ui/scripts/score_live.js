() => { // while a scene is drawn, the answer follows every edit, if all chosen models answer at once
  clearTimeout(window.sdsdemoLive);
  if (!document.body.classList.contains('drawing') || !document.querySelector('#scene-truth [data-live]')) return;
  window.sdsdemoLive = setTimeout(() => {
    if (document.querySelector('#result.stale')) document.getElementById('score')?.click();
  }, 400);
}
