/* A round of examples in which the visitor guesses before the models' answer is shown. The tally is kept in the
   browser. A round ends by itself when the visitor turns to a picture or captions of their own. */
const KEPT = 'sdsdemo-guess';
const count = Number(element.querySelector('.guess').dataset.count);
const first = element.querySelector('.guess').dataset.first;
const part = (name) => element.querySelector(`.${name}`);
const answer = () => document.querySelector('#answer .answer');
const thumbnails = () => document.querySelectorAll('#examples .thumbnail-item');
const idle = {on: false, at: 0, guess: null};
let round = idle;
let tally = read(); // by name: how many were right, of how many

function read() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT) ?? '{}');
    const whole = Object.entries(kept).filter(([, of]) => Array.isArray(of) && of.length === 2 && of.every(Number.isInteger));
    return Object.fromEntries(whole);
  } catch {
    return {};
  }
}
function add(name, right) {
  const [before, of] = tally[name] ?? [0, 0];
  tally[name] = [before + right, of + 1];
}
function keep() {
  try { localStorage.setItem(KEPT, JSON.stringify(tally)); } catch { /* some private windows keep nothing */ }
}

/* The answer that is on the page, once it is complete: captions, index of the true one, and who is right. */
function read_answer() {
  const shown = answer();
  if (!shown || shown.getAttribute('aria-busy') === 'true' || document.querySelector('#result.stale')) return null;
  const captions = [...shown.querySelectorAll('.asked .words')].map((one) => one.textContent);
  const truth = [...shown.querySelectorAll('.asked p')].findIndex((one) => one.querySelector('.true'));
  const rows = [...shown.querySelectorAll('.model-row')].map((row) => ({
    name: row.querySelector('h3 span').textContent,
    right: row.querySelector('.verdict')?.classList.contains('right') ?? false,
  }));
  return captions.length === 2 && truth >= 0 ? {captions, truth, rows} : null;
}

function show() {
  const asks = round.on && round.guess === null;
  document.body.classList.toggle('guessing', asks);
  part('invite').hidden = round.on;
  part('asking').hidden = !asks;
  part('told').hidden = !round.on || asks;
  list();
  if (!asks) return;
  document.getElementById('said').textContent = '';
  part('at').textContent = `${round.at + 1} of ${count}`;
  const found = read_answer();
  for (const index of [0, 1]) {
    const button = element.querySelector(`[data-guess="${index}"]`);
    button.textContent = found ? `${'AB'[index]}  ${found.captions[index]}` : '…';
    button.disabled = !found;
  }
}

function ask(at) {
  round = {on: true, at, guess: null};
  if (read_answer()?.captions.toSorted().join('\n') === first && at === 0) return show(); // the page opened with it
  document.getElementById('result').classList.add('stale'); // until the example's own answer is here
  window.sdsdemoEdits = (window.sdsdemoEdits ?? 0) + 1;
  show();
  thumbnails()[at]?.click();
}

function guess(index) {
  const found = read_answer();
  if (!found) return;
  const right = index === found.truth;
  round = {...round, guess: index};
  add('You', right);
  for (const row of found.rows) add(row.name, row.right);
  keep();
  show();
  const models = found.rows.filter((row) => row.right).length;
  const ends = is_last() ? ' That was the last picture.' : '';
  part('outcome').textContent =
    `${right ? 'You are right' : 'The other caption is true'}; ${models} of ${found.rows.length} models are right.${ends}`;
}

function is_last() {
  return round.at + 1 === count;
}

function list() {
  const lines = Object.entries(tally).map(([name, [right, of]]) => {
    const line = document.createElement('li');
    line.textContent = `${name}: ${right} of ${of} right`;
    return line;
  });
  part('tally').replaceChildren(...lines);
  part('tally').hidden = lines.length === 0 || (round.on && round.guess === null);
  element.querySelector('[data-guess="next"]').hidden = is_last();
}

function stop() {
  round = idle;
  show();
}

element.addEventListener('click', (event) => {
  const asked = event.target.closest('[data-guess]')?.dataset.guess;
  if (asked === 'start') ask(0);
  else if (asked === 'next') ask(round.at + 1);
  else if (asked === 'stop') stop();
  else if (asked !== undefined) guess(Number(asked));
});
const question = document.getElementById('question');
for (const kind of ['input', 'drop', 'paste', 'change']) // the visitor's own question goes first
  question.addEventListener(kind, (event) => { if (round.on && event.isTrusted) stop(); });
question.addEventListener('click', ({target}) => { if (round.on && target.closest('#scene, #suggested')) stop(); });
const changes = new MutationObserver(() => { if (round.on) show(); });
changes.observe(document.getElementById('answer'), {childList: true, subtree: true});
changes.observe(document.getElementById('result'), {attributes: true, attributeFilter: ['class']});
show();
