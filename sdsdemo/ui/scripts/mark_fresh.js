() => { // only if nothing has changed since asking: the answer may belong to an earlier state of the form
  setTimeout(() => { // the page follows the report of a change
    if (!window.sdsdemoIsAnswered()) return;
    document.getElementById('result')?.classList.remove('stale');
    const answer = document.querySelector('#answer .answer'), said = document.getElementById('said');
    if (!answer || !said || answer.getAttribute('aria-busy') === 'true') return;
    // for screen readers: a region that stays, since what is new in one that is replaced is not announced
    const rows = [...answer.querySelectorAll('.model-row')].map((row) => {
      const words = row.querySelector('.verdict span:last-child, .problem')?.textContent.trim();
      const state = row.querySelector('.verdict .mark')?.getAttribute('aria-label');
      return `${row.querySelector('h3 span')?.textContent}: ${[words, state].filter(Boolean).join(', ')}.`;
    });
    said.textContent = '';
    setTimeout(() => {
      if (document.body.classList.contains('guessing')) return; // the visitor guesses first
      said.textContent = [answer.querySelector('.headline')?.textContent, ...rows].filter(Boolean).join(' ');
    }, 50);
  });
}
