/* A rectangle dragged over the plot keeps the examples inside; so do four numbers. What reaches the plot's edge is open. */
{
  const EDGE = 6, LEAST = 5; // pixels of the drawing: as in ui/browse_plot.py, and what is more than a click
  let from = null, hasDragged = false;

  const box = (from, to) => ({
    x: Math.min(from.x, to.x), y: Math.min(from.y, to.y), width: Math.abs(to.x - from.x), height: Math.abs(to.y - from.y),
  });

  function placeOf(svg, event) {
    const side = Number(svg.querySelector('.plane').dataset.side);
    const {x, y} = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const inside = (value) => Math.min(Math.max(value, 0), side);
    return {x: inside(x), y: inside(y)};
  }

  /* low:high of one side in margins, from pixels. */
  function range(ends, low, high, side) {
    const [first, last] = ends.split(' ').map(Number);
    const margin = (at) => String(Number((first + (last - first) * (at - EDGE) / (side - 2 * EDGE)).toPrecision(3)));
    return `${low <= EDGE ? '' : margin(low)}:${high >= side - EDGE ? '' : margin(high)}`;
  }

  element.addEventListener('pointerdown', (event) => {
    hasDragged = false;
    const svg = event.target.closest('.scatter');
    if (!svg || event.button || event.pointerType === 'touch') return; // a finger scrolls the page
    from = placeOf(svg, event);
    event.preventDefault(); // no text is selected
  });
  document.addEventListener('pointermove', (event) => {
    const svg = from && element.querySelector('.scatter');
    if (!svg) return;
    const drawn = box(from, placeOf(svg, event));
    hasDragged ||= Math.max(drawn.width, drawn.height) > LEAST;
    if (hasDragged) Object.entries(drawn).forEach(([name, value]) => svg.querySelector('.brush').setAttribute(name, value));
  });
  document.addEventListener('pointerup', (event) => {
    const svg = from && element.querySelector('.scatter');
    if (svg && hasDragged) {
      const {side, x, y} = svg.querySelector('.plane').dataset;
      const drawn = box(from, placeOf(svg, event));
      const across = range(x, drawn.x, drawn.x + drawn.width, Number(side));
      const up = range(y, Number(side) - drawn.y - drawn.height, Number(side) - drawn.y, Number(side));
      if (across === ':' && up === ':') Object.keys(drawn).forEach((name) => svg.querySelector('.brush').removeAttribute(name));
      trigger('select', {value: 'box', index: `${across},${up}`});
    }
    from = null;
  });
  element.addEventListener('click', (event) => { // the end of a drag opens no example
    if (hasDragged) event.stopPropagation();
    hasDragged = false;
  }, true);

  element.addEventListener('submit', (event) => {
    event.preventDefault();
    const ends = [...event.target.querySelectorAll('input')].map((field) => field.value.trim());
    trigger('select', {value: 'box', index: ends.some(Boolean) ? `${ends[0]}:${ends[1]},${ends[2]}:${ends[3]}` : ''});
  });
}
