/* Marks the open example in the gallery and the scatter plot; j and k step to its neighbours. */
const mark = () => {
  const open = element.querySelector('.example')?.dataset.id;
  for (const node of document.querySelectorAll('#browse-main [data-kind="example"]')) {
    const isOpen = node.dataset.pick === open;
    if (isOpen !== node.hasAttribute('aria-current')) {
      isOpen ? node.setAttribute('aria-current', 'true') : node.removeAttribute('aria-current');
    }
  }
};
new MutationObserver(mark).observe(document.getElementById('browse-main'), {
  childList: true, subtree: true, attributeFilter: ['data-id', 'data-pick', 'aria-current'],
});
document.addEventListener('keydown', (event) => {
  const steps = {j: '1', k: '-1'};
  const typing = event.target.closest('input, textarea, [contenteditable]');
  if (!(event.key in steps) || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (!element.offsetParent || !element.querySelector('.example')) return;
  window.sdsdemoAddress.step();
  trigger('select', {value: 'move', index: steps[event.key]});
});
