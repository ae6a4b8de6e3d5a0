/* The scene editor: draws the visitor's scene, and sends it to the server when it has changed. The server draws the
   picture that the models see. The scene is a text, as in the page's URL (data/mini/sketches.py). */
const NAMESPACE = 'http://www.w3.org/2000/svg';
const STEP = 20; // thousandths of the picture's side that an arrow key moves a shape
const PAUSE = 250; // milliseconds without a change after which the scene is sent
let look, scene, chosen = 0, lastCaption = 'caption-a', waiting, pressed = null;

const part = (selector) => element.querySelector(selector);
const box = () => part('.scene.open');

function read(text) {
  const [paper, ...objects] = text.split('~');
  return {paper, objects: objects.map((one) => {
    const [shape, colour, ...numbers] = one.split('.');
    const [x, y, radius, turn = 0] = numbers.map(Number);
    return {shape, colour, x, y, radius, turn};
  })};
}
function write() {
  const objects = scene.objects.map(({shape, colour, x, y, radius, turn}) =>
    [shape, colour, Math.round(x), Math.round(y), radius, ...(turn ? [turn] : [])].join('.'));
  return [scene.paper, ...objects].join('~');
}
function send(act) {
  clearTimeout(waiting);
  trigger('select', {value: JSON.stringify({do: act, scene: scene ? write() : ''}), index: 0});
}
function changed() {
  box().dataset.scene = write();
  draw();
  clearTimeout(waiting);
  waiting = setTimeout(() => send('move'), PAUSE);
}

/* ---- drawing */

const rgb = (paint) => `rgb(${paint.join(',')})`;
const blend = (one, other, share) => one.map((value, k) => Math.round(value + share * (other[k] - value)));
function add(parent, name, attributes) {
  const made = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return parent.appendChild(made);
}
function paint(parent, {shape, colour, radius}, paper) {
  const fill = look.colours[colour], ground = look.backgrounds[paper];
  const rim = colour === 'black' ? blend(fill, ground, .3) : blend(fill, look.colours.black, look.shade);
  const paints = {fill, rim, hole: ground, light: blend(fill, ground, look.tint)};
  const line = {stroke: rgb(rim), 'stroke-linejoin': 'round'};
  add(parent, 'polygon', {points: look.outlines[shape], fill: rgb(fill), ...line, 'stroke-width': look.rim, 'paint-order': 'stroke'});
  if (shape === 'ring')
    add(parent, 'circle', {r: .5, fill: rgb(ground), ...line, 'stroke-width': look.rim / 2});
  else if (radius < 1000 * look.holds)
    for (const [points, of] of look.details[shape] ?? []) add(parent, 'polygon', {points, fill: rgb(paints[of])});
}
function draw() {
  const stage = part('.stage');
  const hadFocus = stage.contains(document.activeElement);
  stage.replaceChildren();
  add(stage, 'rect', {width: 1000, height: 1000, fill: rgb(look.backgrounds[scene.paper])});
  const order = scene.objects.map((one, k) => [one, k]).sort(([a], [b]) => b.radius - a.radius);
  for (const [one, k] of order) {
    const {shape, colour, x, y, radius, turn} = one;
    const group = add(stage, 'g', {
      transform: `translate(${x} ${y}) rotate(${turn * 1.8 / Math.PI}) scale(${radius})`,
      tabindex: 0, role: 'button', 'data-object': k, 'aria-pressed': k === chosen,
      'aria-label': `${colour} ${shape}, ${Math.round(x / 10)} % from the left, ${Math.round(y / 10)} % from the top`,
    });
    paint(group, one, scene.paper);
    if (k === chosen) add(group, 'circle', {class: 'chosen', r: 1.28, fill: 'none', 'stroke-width': 10 / radius});
  }
  if (hadFocus) part(`[data-object="${chosen}"]`)?.focus();
  mark();
}
/* Which of the choices the chosen shape has. */
function mark() {
  const one = scene.objects[chosen];
  const has = {shape: one?.shape, colour: one?.colour, size: String(nearest(one?.radius)), paper: scene.paper};
  for (const [name, value] of Object.entries(has))
    for (const button of element.querySelectorAll(`[data-${name}]`))
      button.setAttribute('aria-pressed', String(button.dataset[name] === value));
  part('[data-edit="add"]').disabled = scene.objects.length >= Number(box().dataset.most);
  part('[data-edit="remove"]').disabled = scene.objects.length <= 1;
}
function nearest(radius) {
  const sizes = [...element.querySelectorAll('[data-size]')].map((button) => Number(button.dataset.size));
  return sizes.toSorted((a, b) => Math.abs(a - radius) - Math.abs(b - radius))[0];
}
function icons() {
  for (const button of element.querySelectorAll('[data-shape]')) {
    const icon = button.querySelector('svg');
    add(icon, 'polygon', {points: look.outlines[button.dataset.shape], fill: 'currentColor'});
    if (button.dataset.shape === 'ring') add(icon, 'circle', {r: .5, class: 'hole'});
  }
}

/* ---- edits */

function put(values) {
  Object.assign(scene.objects[chosen], values);
  changed();
}
function move(x, y) {
  put({x: Math.min(950, Math.max(50, x)), y: Math.min(950, Math.max(50, y))});
}
function edit(what) {
  if (what === 'close') return close();
  if (what === 'remove' && scene.objects.length > 1) {
    scene.objects.splice(chosen, 1);
    chosen = 0;
  } else if (what === 'add') {
    const like = scene.objects[chosen];
    const apart = (x, y) => Math.min(...scene.objects.map((one) => Math.hypot(one.x - x, one.y - y) - one.radius));
    const places = [200, 500, 800].flatMap((x) => [200, 500, 800].map((y) => [x, y]));
    const [x, y] = places.toSorted((a, b) => apart(...b) - apart(...a))[0];
    scene.objects.push({...like, radius: Math.min(like.radius, 165), x, y, turn: 0});
    chosen = scene.objects.length - 1;
  }
  changed();
}
function show() {
  document.body.classList.add('drawing');
  part('.stage').scrollIntoView({block: 'center'}); // also ends a smooth scroll to an answer
}
function close() {
  document.body.classList.remove('drawing');
  part('.reopen').focus();
}
/* Puts a word into the caption that was edited last, as if it had been typed. */
function insert(word) {
  const field = document.querySelector(`#${lastCaption} textarea`);
  if (!field) return;
  const at = field.selectionStart ?? field.value.length, to = field.selectionEnd ?? at;
  const before = field.value.slice(0, at), after = field.value.slice(to);
  const text = (before && !/\s$/.test(before) ? ' ' : '') + word + (after && !/^\s/.test(after) ? ' ' : '');
  Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, 'value').set.call(field, before + text + after);
  field.setSelectionRange(at + text.length, at + text.length);
  field.dispatchEvent(new Event('input', {bubbles: true}));
}
document.addEventListener('focusin', ({target}) => {
  const id = target.closest?.('.caption')?.id;
  if (id) lastCaption = id;
});

element.addEventListener('click', ({target}) => {
  const button = target.closest('button');
  if (!button) return;
  const {do: act, edit: what, shape, colour, size, paper, word} = button.dataset;
  if (act === 'open' && box()) show();
  if (act) send(act);
  else if (what) edit(what);
  else if (shape) put({shape});
  else if (colour) put({colour});
  else if (size) put({radius: Number(size)});
  else if (word) insert(word);
  else if (paper) {
    scene.paper = paper;
    changed();
  }
});
element.addEventListener('keydown', (event) => {
  const object = event.target.closest('[data-object]');
  if (!object) return;
  const by = {ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP]}[event.key];
  chosen = Number(object.dataset.object);
  if (by) move(scene.objects[chosen].x + by[0], scene.objects[chosen].y + by[1]);
  else if (['Delete', 'Backspace'].includes(event.key)) edit('remove');
  else if (['Enter', ' '].includes(event.key)) draw();
  else return;
  event.preventDefault();
});
element.addEventListener('pointerdown', (event) => {
  const object = event.target.closest('[data-object]');
  if (!object) return;
  chosen = Number(object.dataset.object);
  const at = pointed(event), one = scene.objects[chosen];
  pressed = {x: one.x - at.x, y: one.y - at.y};
  part('.stage').setPointerCapture(event.pointerId);
  draw();
  part(`[data-object="${chosen}"]`).focus();
  event.preventDefault();
});
element.addEventListener('pointermove', (event) => {
  if (!pressed) return;
  const at = pointed(event);
  move(at.x + pressed.x, at.y + pressed.y);
});
for (const end of ['pointerup', 'pointercancel']) element.addEventListener(end, () => { pressed = null; });
function pointed(event) {
  const {left, top, width} = part('.stage').getBoundingClientRect();
  return {x: 1000 * (event.clientX - left) / width, y: 1000 * (event.clientY - top) / width};
}

/* ---- what the server sends */

function load() {
  const opened = box();
  if (!opened || opened.dataset.loaded) return;
  opened.dataset.loaded = 'yes';
  look = JSON.parse(opened.dataset.look);
  scene = read(opened.dataset.scene);
  chosen = 0;
  icons();
  draw();
  show();
}
new MutationObserver(load).observe(element, {childList: true, subtree: true});
const leave = () => document.body.classList.remove('drawing');
document.addEventListener('click', ({target}) => { // another picture takes the scene's place
  if (target.closest('#examples, #browse, #finetune, [role="tab"]')) leave();
});
window.addEventListener('popstate', leave);
load();
