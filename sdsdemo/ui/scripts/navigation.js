/* What a reload keeps, and where Back leads.

A page that lost its server reloads by itself, and so may a visitor in the middle of a run. What was chosen and typed is kept
in the session storage of the browser's tab, so that nobody else sees it, and put back after a reload. The form of an address
that nobody has touched comes from the address again. Each tab of the page that is opened is an entry in the browser's
history: Back returns to the one before, as it was left. */
(() => {
  const KEY = 'sdsdemo.form';
  const FORMS = '#question, #finetune-form, [data-kind="compare"]';

  function read() {
    try { return JSON.parse(sessionStorage.getItem(KEY)); } catch { return null; }
  }

  function forget() {
    try { sessionStorage.removeItem(KEY); } catch { /* the storage is forbidden */ }
  }

  function write(kept) {
    try { sessionStorage.setItem(KEY, JSON.stringify(kept)); } catch { /* the storage is full or forbidden */ }
  }

  const addresses = {}; // of the tabs, as they were left
  const how = performance.getEntriesByType('navigation')[0]?.type;
  const held = ['reload', 'back_forward'].includes(how) ? read() : null;
  const tabNow = () => new URLSearchParams(window.location.search).get('tab') ?? 'compare';
  const addressOf = (tab) => window.location.pathname + (tab === 'compare' ? '' : `?tab=${tab}`);
  let touched = Boolean(held), ready = !held;
  if (!held) forget();
  if (held && tabNow() === 'compare') window.history.replaceState(null, '', addressOf('compare'));

  for (const name of ['input', 'click', 'drop', 'paste']) {
    document.addEventListener(name, ({target}) => {
      touched ||= Boolean(target.closest?.(FORMS)) && !target.closest('#score');
      if (name === 'input' && target.matches('textarea')) type(target);
    }, true);
  }

  /* Text is kept as it is typed: Gradio tells of no change while the server is away. */
  function type(field) {
    const id = field.closest(FORMS) && field.closest('[id]')?.id;
    if (id && ready) write({values: {...read()?.values, [id]: field.value}});
  }

  const propsOf = (id) => window.gradio_config?.components.find((one) => one.props?.elem_id === id)?.props ?? {};

  /* A field with a list takes only what is in it: another visit may have had more to choose from. */
  function takes(id, value) {
    const {choices, allow_custom_value: free} = propsOf(id);
    return !choices || free || value === null || choices.some(([, choice]) => choice === value);
  }

  const isThere = (picture) => fetch(picture.url, {method: 'HEAD'}).then((answer) => answer.ok, () => false);

  /* The fields' values after a reload. ids: of their elements. gone: what is said of a lost picture. */
  async function restored(ids, gone) {
    const values = held?.values ?? {};
    const skip = {__type__: 'update'};
    const found = ids.map((id) => (id in values && takes(id, values[id]) ? values[id] : skip));
    const hasLost = values.picture && !(await isThere(values.picture));
    if (hasLost) found[ids.indexOf('picture')] = null;
    ready = true;
    return [...found, hasLost ? gone : skip];
  }

  function keep(ids, now) {
    if (!ready || !touched) return;
    delete addresses.compare; // what an address asked for is no longer what the form says
    if (tabNow() === 'compare' && window.location.search) window.history.replaceState(null, '', addressOf('compare'));
    write({values: Object.fromEntries(ids.map((id, place) => [id, now[place]]))});
  }

  /* A question that was answered is scored again. One that was not is left to the visitor: it may be what broke the page. */
  function scoreAgain() {
    if (held?.answered) setTimeout(() => document.getElementById('score')?.click(), 250);
  }

  window.addEventListener('pagehide', () => {
    const kept = read();
    const isStale = document.getElementById('result')?.classList.contains('stale');
    if (kept) write({...kept, answered: !isStale && !document.querySelector('#answer [aria-busy="true"]')});
  });

  window.sdsdemoForm = {restored, keep, scoreAgain};

  const tabs = () => [...document.querySelectorAll('#tabs [role="tab"][data-tab-id]')];
  let shown = null;

  function follow() {
    const open = tabs().find((tab) => tab.getAttribute('aria-selected') === 'true')?.dataset.tabId;
    if (!open || open === shown) return;
    const before = shown;
    shown = open;
    if (!before || open === tabNow()) return; // the page has just been opened, at this tab or on its way to it
    window.history.pushState(null, '', addresses[open] ?? addressOf(open));
    if (document.getElementById('tabs').getBoundingClientRect().top < 0) window.scrollTo(0, 0);
  }

  function leave(tab) { addresses[tab] = window.location.pathname + window.location.search; }

  new MutationObserver(() => {
    if (shown && tabNow() === shown) leave(shown);
    follow();
  }).observe(document, {subtree: true, childList: true, attributes: true, attributeFilter: ['aria-selected']});

  window.addEventListener('popstate', () => tabs().find((tab) => tab.dataset.tabId === tabNow())?.click());
})();
