() => { // the page follows the report of a change
  setTimeout(() => {
    const result = document.getElementById('result');
    if (window.sdsdemoIsAnswered()) result?.classList.remove('stale'); // the form is again as it was
    else if (!window.sdsdemoIsAsked()) result?.classList.add('stale');
  });
}
