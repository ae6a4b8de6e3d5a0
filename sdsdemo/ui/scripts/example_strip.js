/* A click on an example asks for it; it stays marked until the visitor takes another picture. */
const mark = (chosen) => {
  for (const one of element.querySelectorAll('[data-example]')) one.setAttribute('aria-pressed', String(one === chosen));
};
element.addEventListener('click', ({target}) => {
  const chosen = target.closest('[data-example]');
  if (!chosen) return;
  mark(chosen);
  trigger('select', {index: Number(chosen.dataset.example), value: chosen.title});
});
for (const kind of ['change', 'drop', 'paste', 'click'])
  document.addEventListener(kind, ({target}) => { if (target.closest?.('#picture, #scene')) mark(null); });
