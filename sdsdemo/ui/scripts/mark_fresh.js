() => { // only if the visitor has changed nothing since asking: the answer may belong to an earlier state of the form
  if ((window.sdsdemoAsked ?? 0) === (window.sdsdemoEdits ?? 0))
    document.getElementById('result')?.classList.remove('stale');
}
