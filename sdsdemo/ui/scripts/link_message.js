/* Opens the view of the URL when Back asks for it; the button puts the sentences about a link away. */
window.sdsdemoAddress.open = () => trigger('select', {value: 'view', index: 0});
element.addEventListener('click', ({target}) => target.closest('button')?.closest('.link-message')?.remove());
