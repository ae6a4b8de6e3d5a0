/* "More filters" shows and hides the form of all filters. Each update of the bar says anew that it is hidden. */
{
  const form = () => document.getElementById('browse-filters');
  const say = () => {
    const button = element.querySelector('[data-more]');
    const isOpen = String(form()?.classList.contains('open') ?? false);
    if (button && button.getAttribute('aria-expanded') !== isOpen) button.setAttribute('aria-expanded', isOpen);
  };
  element.addEventListener('click', ({target}) => {
    if (!target.closest('[data-more]')) return;
    form().classList.toggle('open');
    say();
  });
  new MutationObserver(say).observe(element, {childList: true, subtree: true, attributeFilter: ['aria-expanded']});
  say();
}
