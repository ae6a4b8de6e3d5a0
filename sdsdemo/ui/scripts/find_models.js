/* Shows the model cards that hold every word typed in the field above them, and says how many they are. */
element.addEventListener('input', ({target}) => {
  const field = target.closest('.find-models input');
  if (!field) return;
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  const cards = [...element.querySelectorAll('.cards article')];
  for (const card of cards) card.hidden = !words.every((word) => card.textContent.toLowerCase().includes(word));
  const found = cards.filter((card) => !card.hidden).length;
  const said = words.length ? `${found} of ${cards.length} models` : `${cards.length} models`;
  element.querySelector('.find-models output').textContent = found ? said : `${said}: try fewer words`;
});
