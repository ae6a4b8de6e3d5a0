/* What the visitor has unfolded stays so until they fold it: an update keeps the page's nodes, and takes from each whatever
attributes the new HTML lacks, such as `open`. */
{
  const unfolded = new WeakSet();
  document.addEventListener('click', ({target}) => {
    const fold = target.closest?.('summary')?.parentElement;
    if (fold) fold.open ? unfolded.delete(fold) : unfolded.add(fold);
  }, true);
  new MutationObserver((changes) => {
    for (const {target} of changes) if (unfolded.has(target) && !target.open) target.open = true;
  }).observe(document, {subtree: true, attributeFilter: ['open']});
}
