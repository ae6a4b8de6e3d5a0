() => { // only where the visitor has changed nothing since the question: an answer may be to what the form said before
  if ((window.sdsdemoAsked ?? 0) === (window.sdsdemoEdits ?? 0))
    document.getElementById('result')?.classList.remove('stale');
}
