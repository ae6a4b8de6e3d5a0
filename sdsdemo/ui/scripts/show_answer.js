() => { // on a phone the answer is below the form; a scene that is being drawn stays in view
  if (document.body.classList.contains('drawing')) return;
  const result = document.getElementById('result');
  const below = result.getBoundingClientRect().top > 0.75 * window.innerHeight;
  const calm = window.matchMedia('(prefers-reduced-motion: reduce)').matches;
  const refused = document.querySelector('#message .message');
  if (below && !refused) result.scrollIntoView({behavior: calm ? 'auto' : 'smooth'});
}
