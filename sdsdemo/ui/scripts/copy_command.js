/* "Copy" beside a command. */
element.addEventListener('click', async (event) => {
  const button = event.target.closest('.copied .copy');
  if (!button) return;
  await navigator.clipboard.writeText(button.previousElementSibling.textContent);
  button.textContent = 'Copied';
  setTimeout(() => { button.textContent = 'Copy'; }, 2000);
});
