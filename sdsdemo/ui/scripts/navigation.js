/* Keeps the form across reloads, and makes the browser's Back work between tabs.

A page that loses its server reloads by itself, and a visitor may reload in the middle of a run. The form is saved in the
session storage of the browser tab, where nobody else sees it, and restored after a reload. A form that was filled from a URL
and not edited is filled from the URL again. Each opened tab of the page is an entry in the browser's history: Back returns
to the previous one, as it was left. */
(() => {
  const KEY = 'sdsdemo.form';
  const FORMS = '#question, #finetune-form, [data-kind="compare"]';

  function read() {
    try { return JSON.parse(sessionStorage.getItem(KEY)); } catch { return null; }
  }

  function forget() {
    try { sessionStorage.removeItem(KEY); } catch { /* the storage is forbidden */ }
  }

  function write(form) {
    try { sessionStorage.setItem(KEY, JSON.stringify(form)); } catch { /* the storage is full or forbidden */ }
  }

  const addresses = {}; // the URL of each tab, as it was left
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

  /* Saves text as it is typed: Gradio reports no change while the server is unreachable. */
  function type(field) {
    const id = field.closest(FORMS) && field.closest('[id]')?.id;
    if (id && ready) write({values: {...read()?.values, [id]: field.value}});
  }

  const propsOf = (id) => window.gradio_config?.components.find((one) => one.props?.elem_id === id)?.props ?? {};

  /* A dropdown accepts only its own choices: an earlier visit may have had more. */
  function takes(id, value) {
    const {choices, allow_custom_value: free} = propsOf(id);
    return !choices || free || value === null || choices.some(([, choice]) => choice === value);
  }

  const isThere = (picture) => fetch(picture.url, {method: 'HEAD'}).then((answer) => answer.ok, () => false);

  /* The fields' values after a reload. ids: of their elements. gone: the message about a lost picture. */
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
    delete addresses.compare; // the form no longer matches the URL
    if (tabNow() === 'compare' && window.location.search) window.history.replaceState(null, '', addressOf('compare'));
    write({values: Object.fromEntries(ids.map((id, place) => [id, now[place]]))});
  }

  /* Scores an answered question again. An unanswered one is left to the visitor: it may be what broke the page. */
  function scoreAgain() {
    if (held?.answered) setTimeout(() => document.getElementById('score')?.click(), 250);
  }

  window.addEventListener('pagehide', () => {
    const form = read();
    const isStale = document.getElementById('result')?.classList.contains('stale');
    if (form) write({...form, answered: !isStale && !document.querySelector('#answer [aria-busy="true"]')});
  });

  window.sdsdemoForm = {restored, keep, scoreAgain};

  const tabs = () => [...document.querySelectorAll('#tabs [role="tab"][data-tab-id]')];
  let shownTab = null;

  function follow() {
    const open = tabs().find((tab) => tab.getAttribute('aria-selected') === 'true')?.dataset.tabId;
    if (!open || open === shownTab) return;
    const before = shownTab;
    shownTab = open;
    if (!before || open === tabNow()) return; // the page has just opened, or the URL already names this tab
    window.history.pushState(null, '', addresses[open] ?? addressOf(open));
    if (document.getElementById('tabs').getBoundingClientRect().top < 0) window.scrollTo(0, 0);
  }

  function leave(tab) { addresses[tab] = window.location.pathname + window.location.search; }

  new MutationObserver(() => {
    if (shownTab && tabNow() === shownTab) leave(shownTab);
    follow();
  }).observe(document, {subtree: true, childList: true, attributes: true, attributeFilter: ['aria-selected']});

  window.addEventListener('popstate', () => tabs().find((tab) => tab.dataset.tabId === tabNow())?.click());
})();
