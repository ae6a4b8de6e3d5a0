(run) => { // only a visit with a run of its own, or to a shared one, asks for its progress
  const address = new URLSearchParams(location.search);
  const isShared = address.get('tab') === 'finetune' && address.has('run');
  if (run || isShared) document.getElementById('watch-run')?.click();
}
