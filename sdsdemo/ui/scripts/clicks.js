/* A click on an element with `data-kind` and `data-pick` sends both to Python. */
element.addEventListener('click', (event) => {
  const node = event.target.closest('[data-kind]');
  if (!node || node.disabled) return;
  window.sdsdemoScore = node.dataset.kind === 'compare';
  if (node.dataset.kind === 'move') window.sdsdemoAddress.step();
  trigger('select', {value: node.dataset.kind, index: node.dataset.pick});
});
