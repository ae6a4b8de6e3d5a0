/* A button with `data-link` copies its URL and says so for two seconds. */
element.addEventListener('click', async (event) => {
  const button = event.target.closest('[data-link]');
  if (!button) return;
  const given = button.dataset.link;
  const link = given.startsWith('http') ? given : window.location.origin + window.location.pathname + given;
  if (await window.sdsdemoCopy(link)) button.textContent = 'Link copied';
  else window.prompt('Copy this link:', link);
  setTimeout(() => { button.textContent = 'Copy link'; }, 2000);
});
