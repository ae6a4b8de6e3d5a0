() => { document.getElementById('result')?.classList.add('stale'); }
