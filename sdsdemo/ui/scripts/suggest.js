/* A suggested caption becomes caption B, as if it had been typed. */
element.addEventListener('click', (event) => {
  const {target} = event;
  if (target.closest('a')) { // without a change of the page's address
    event.preventDefault();
    document.getElementById('changes').scrollIntoView();
    document.getElementById('score-changes').focus();
  }
  const text = target.closest('[data-caption]')?.dataset.caption;
  const field = document.querySelector('#caption-b textarea');
  if (text === undefined || !field) return;
  Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, 'value').set.call(field, text);
  field.dispatchEvent(new Event('input', {bubbles: true}));
  field.focus();
});
