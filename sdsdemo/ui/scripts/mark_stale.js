(...form) => { // unless this is the form that was asked for last
  if (window.sdsdemoSameForm(form) !== window.sdsdemoAskedForm) document.getElementById('result')?.classList.add('stale');
}
