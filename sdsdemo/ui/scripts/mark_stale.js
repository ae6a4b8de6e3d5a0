() => { // unless this is what was asked for last; the page follows the report of a change
  setTimeout(() => {
    if (!window.sdsdemoIsAsked()) document.getElementById('result')?.classList.add('stale');
  });
}
