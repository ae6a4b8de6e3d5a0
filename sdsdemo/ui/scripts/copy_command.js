/* "Copy" beside a command; where the browser forbids it, the command is selected instead. */
element.addEventListener('click', async ({target}) => {
  const button = target.closest('.copied .copy');
  if (!button) return;
  const command = button.previousElementSibling, isCopied = await window.sdsdemoCopy(command.textContent);
  if (!isCopied) getSelection().selectAllChildren(command);
  button.firstChild.data = isCopied ? 'Copied' : 'Selected';
  setTimeout(() => { button.firstChild.data = 'Copy'; }, 2000);
});
