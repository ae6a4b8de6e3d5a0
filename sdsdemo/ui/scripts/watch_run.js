(run) => { // only a visit with a run of its own, or to a shared one, asks for its progress
  if (run || new URLSearchParams(location.search).has('run')) document.getElementById('watch-run')?.click();
}
