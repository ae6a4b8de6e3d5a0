() => { // while a scene is drawn, the answer follows every edit, if all chosen models answer at once
  clearTimeout(window.sdsdemoLive);
  if (!document.body.classList.contains('drawing') || !document.querySelector('#scene-truth [data-live]')) return;
  if (window.sdsdemoIsAsked()) return;
  window.sdsdemoLive = setTimeout(() => document.getElementById('score')?.click(), 400);
}
