/* Tab closes a dropdown's list. Gradio's handler of key presses waits a moment and then opens the list for every key but
Escape; by then Tab has moved the focus and closed the list, which stays open behind it. So the handler never hears of Tab. */
document.addEventListener('keydown', (event) => {
  if (event.key === 'Tab' && event.target.matches?.('input[role="combobox"]')) event.stopPropagation();
}, true);
