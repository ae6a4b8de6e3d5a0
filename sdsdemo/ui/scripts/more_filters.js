/* "More filters" shows and hides the form of all filters. */
{
  const form = () => document.getElementById('browse-filters');
  const say = () => element.querySelector('[data-more]')
    ?.setAttribute('aria-expanded', String(form()?.classList.contains('open') ?? false));
  element.addEventListener('click', ({target}) => {
    if (!target.closest('[data-more]')) return;
    form().classList.toggle('open');
    say();
  });
  new MutationObserver(say).observe(element, {childList: true, subtree: true});
  say();
}
