/* The open example: Esc closes it, and the visitor is back where it was opened, with the focus on the card. */
{
  let before = null, shown = '', showsAll = false;
  const cardOf = (id) => document.querySelector(`#browse-gallery [data-kind="example"][data-pick="${CSS.escape(id)}"]`);
  const isWide = () => getComputedStyle(element.querySelector('.example')).position !== 'fixed';

  document.addEventListener('click', ({target}) => {
    const opener = target.closest?.(':is(#browse-list, #browse-facets) [data-kind="example"]');
    if (opener && !shown) before = {scroll: window.scrollY, top: cardOf(opener.dataset.pick)?.getBoundingClientRect().top};
  }, true);

  document.addEventListener('keydown', (event) => {
    const isList = event.target.matches?.('[role="combobox"][aria-expanded="true"]');
    if (event.key !== 'Escape' || isList || !element.offsetParent || !shown) return;
    trigger('select', {value: 'close', index: ''});
  }, true);

  function opened(example) {
    const card = cardOf(example.dataset.id);
    if (before?.top !== undefined && card && isWide()) window.scrollBy(0, card.getBoundingClientRect().top - before.top);
    if (before) example.querySelector('h2').focus({preventScroll: true});
  }

  function closed(id) {
    if (!before || !document.getElementById('browse')?.offsetParent) return;
    window.scrollTo(0, before.scroll);
    (cardOf(id) ?? document.querySelector('#browse-gallery .pair-card'))?.focus({preventScroll: true});
    before = null;
  }

  new MutationObserver(() => {
    const example = element.querySelector('.example'), id = example?.dataset.id ?? '';
    const others = example?.querySelector('.other-models');
    if (others && others.open !== showsAll) others.open = showsAll;
    if (id === shown) return;
    const last = shown;
    shown = id;
    if (id && !last) opened(example);
    if (!id) closed(last);
  }).observe(element, {childList: true, subtree: true, attributeFilter: ['data-id']});
  element.addEventListener('toggle', ({target}) => {
    if (target.matches('.other-models')) showsAll = target.open;
  }, true);
}
