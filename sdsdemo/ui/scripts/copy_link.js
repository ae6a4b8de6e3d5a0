/* A button with `data-link` copies an address, shows it in the browser's own bar, and says so for two seconds. */
element.addEventListener('click', async (event) => {
  const button = event.target.closest('[data-link]');
  if (!button) return;
  const asked = button.dataset.link;
  const link = asked.startsWith('http') ? asked : window.location.origin + window.location.pathname + asked;
  if (!asked.startsWith('http')) window.history.replaceState(null, '', asked);
  try {
    await navigator.clipboard.writeText(link);
    button.textContent = 'Link copied';
  } catch {
    window.prompt('Copy this link:', link);
  }
  setTimeout(() => { button.textContent = 'Copy link'; }, 2000);
});
