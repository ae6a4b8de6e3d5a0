/* The slider of a panel moves its pictures, and a cursor in both charts; pointing at a chart moves the slider. */
const evidence = element.closest('#evidence'); // elsewhere the panel stands alone
const charts = () => (evidence ? evidence.querySelectorAll('.js-plotly-plot') : []);
const placeOf = (panel) => Number(panel.style.getPropertyValue('--at'));

function show(panel, at) {
  const timesteps = JSON.parse(panel.dataset.timesteps);
  panel.style.setProperty('--at', at);
  const slider = panel.querySelector('input[type=range]');
  if (slider) {
    slider.value = at;
    const output = panel.querySelector('output');
    output.querySelector('b').textContent = timesteps[at];
    slider.setAttribute('aria-valuetext', output.textContent);
  }
  for (const tile of panel.querySelectorAll('[data-below]')) {
    const below = JSON.parse(tile.dataset.below)[at];
    tile.querySelector('.below').textContent = below.words;
    tile.classList.toggle('wins', below.wins);
  }
  placeCursors();
}

/* A line over each chart at the timestep of the model's slider. */
function placeCursors() {
  for (const chart of charts()) {
    watch(chart);
    const layout = chart._fullLayout;
    if (!layout) continue;
    for (const panel of element.querySelectorAll('.denoising')) {
      const number = Number(panel.dataset.model) + 1;
      const [x, y] = ['xaxis', 'yaxis'].map((name) => layout[name + (number > 1 ? number : '')]);
      if (!x || !y) continue;
      const timestep = JSON.parse(panel.dataset.timesteps)[placeOf(panel)];
      let line = chart.querySelector(`.timestep-cursor[data-model="${panel.dataset.model}"]`);
      if (!line) {
        line = document.createElement('div');
        line.className = 'timestep-cursor';
        line.dataset.model = panel.dataset.model;
        chart.append(line);
      }
      line.style.left = `${x._offset + x.d2p(timestep)}px`;
      line.style.top = `${y._offset}px`;
      line.style.height = `${y._length}px`;
    }
  }
}

/* Plotly's own events, once for each chart it draws. */
function watch(chart) {
  if (chart.sdsdemoWatched || !chart.on) return;
  chart.sdsdemoWatched = true;
  chart.on('plotly_hover', ({points}) => {
    const number = Number((points[0].xaxis?._id ?? 'x').slice(1) || 1) - 1;
    const panel = element.querySelector(`.denoising[data-model="${number}"]`);
    if (!panel) return;
    const timesteps = JSON.parse(panel.dataset.timesteps);
    const distance = timesteps.map((timestep) => Math.abs(timestep - points[0].x));
    show(panel, distance.indexOf(Math.min(...distance)));
  });
  chart.on('plotly_afterplot', placeCursors);
}

let playing;
function stop() {
  clearInterval(playing?.timer);
  if (playing) playing.button.textContent = '▶';
  playing = undefined;
}

element.addEventListener('input', (event) => {
  if (event.target.type !== 'range') return;
  stop();
  show(event.target.closest('.denoising'), Number(event.target.value));
});
element.addEventListener('click', (event) => {
  const button = event.target.closest('.play');
  if (!button) return;
  const wasPlaying = playing?.button === button;
  stop();
  if (wasPlaying) return;
  const panel = button.closest('.denoising');
  const step = () => {
    if (!panel.isConnected) return stop();
    show(panel, (placeOf(panel) + 1) % JSON.parse(panel.dataset.timesteps).length);
  };
  button.textContent = '❚❚';
  playing = {button, timer: setInterval(step, 900)};
  step();
});

/* A new answer comes into the panels that are there, and brings its own place in the strips: the sliders follow it. */
new MutationObserver(() => {
  stop();
  for (const panel of element.querySelectorAll('.denoising')) show(panel, placeOf(panel));
}).observe(element, {subtree: true, attributeFilter: ['data-timesteps', 'data-below']});

/* Charts are drawn after the page, and anew with each answer. */
if (evidence) {
  new MutationObserver(() => requestAnimationFrame(placeCursors)).observe(evidence, {childList: true, subtree: true});
}
window.addEventListener('resize', () => requestAnimationFrame(placeCursors));
