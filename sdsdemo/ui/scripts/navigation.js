/* The page's URL follows the view, a link opens a view, and the browser's Back returns to the one before.

Whatever shows a part of the view carries that part of the URL in `data-address`; the URL has those of the open tab. Opening
a tab or an example makes an entry in the browser's history, any other change edits the entry. What a URL asks for is filled
in by the server (ui/navigation.py). What a URL never holds, such as an uploaded picture, is saved in the session storage of
the browser tab, where nobody else sees it, and restored after a reload; so are the views of the other tabs. */
(() => {
  const FORM = 'sdsdemo.form', VIEWS = 'sdsdemo.views';
  const FORMS = '#question, #finetune-form, [data-kind="compare"]';
  const FIRST = 'compare';
  const SETTLED = 1000; // milliseconds

  function read(key) {
    try { return JSON.parse(sessionStorage.getItem(key)); } catch { return null; }
  }

  function write(key, value) {
    try {
      value ? sessionStorage.setItem(key, JSON.stringify(value)) : sessionStorage.removeItem(key);
    } catch { /* the storage is full or forbidden */ }
  }

  const how = performance.getEntriesByType('navigation')[0]?.type;
  const isBack = ['reload', 'back_forward'].includes(how);
  const held = isBack ? read(FORM) : null;
  const views = (isBack && read(VIEWS)) || {}; // by tab, its part of the URL as it was left
  if (!isBack) [FORM, VIEWS].forEach((key) => write(key, null));

  /* ---- the form */

  let touched = Boolean(held), ready = !held;
  const typed = new Map(); // by field, what was typed in it since the last click: Gradio may report an earlier value later

  for (const name of ['input', 'click', 'drop', 'paste']) {
    document.addEventListener(name, ({target}) => {
      touched ||= Boolean(target.closest?.(FORMS)) && !target.closest('#score');
      if (name === 'click' && ready) typed.clear();
      if (name === 'input' && target.matches('textarea')) type(target);
    }, true);
  }

  /* Saves text as it is typed: Gradio reports no change while the server is unreachable. */
  function type(field) {
    const id = field.closest(FORMS) && field.closest('[id]')?.id;
    if (!id) return;
    typed.set(id, field.value);
    if (ready) write(FORM, {values: {...read(FORM)?.values, [id]: field.value}});
  }

  const propsOf = (id) => window.gradio_config?.components.find((one) => one.props?.elem_id === id)?.props ?? {};

  /* A dropdown accepts only its own choices: an earlier visit may have had more, which the server has filled in. */
  function takes(id, value) {
    const {choices, allow_custom_value: free} = propsOf(id);
    return !choices || free || value === null || choices.some(([, choice]) => choice === value);
  }

  const isThere = (picture) => fetch(picture.url, {method: 'HEAD'}).then((answer) => answer.ok, () => false);

  /* The fields' values after a reload. ids: of their elements. gone: the message about a lost picture. */
  async function restored(ids, gone) {
    const values = held?.values ?? {};
    const skip = {__type__: 'update'};
    const found = ids.map((id) => (id in values && !typed.has(id) && takes(id, values[id]) ? values[id] : skip));
    const hasLost = values.picture && !(await isThere(values.picture));
    if (hasLost) found[ids.indexOf('picture')] = null;
    ready = true;
    return [...found, hasLost ? gone : skip];
  }

  function keep(ids, now) {
    if (!ready || !touched) return;
    const values = Object.fromEntries(ids.map((id, place) => [id, now[place]]));
    write(FORM, {values: {...values, ...Object.fromEntries(typed)}});
  }

  /* Scores the question of a link, or one that was answered before a reload. An unanswered one is left to the visitor: it
  may be what broke the page. Then the URL follows the view again. */
  let isFirst = true;
  function scoreAgain() {
    const asks = document.querySelector('#link-message [data-asks]');
    if (asks || (isFirst && held?.answered)) setTimeout(() => document.getElementById('score')?.click(), 250);
    asks?.removeAttribute('data-asks');
    isFirst = false;
    arrive();
  }

  window.sdsdemoForm = {restored, keep, scoreAgain};

  /* ---- the URL */

  const partsOf = (search) => search.slice(1).split('&').filter(Boolean);
  const isForeign = (part) => part.startsWith('__'); // Gradio's own, such as `__theme`
  const queryOf = (search) => partsOf(search).filter((part) => !part.startsWith('tab=') && !isForeign(part)).join('&');
  const tabNow = () => new URLSearchParams(window.location.search).get('tab') ?? FIRST;
  const tabs = () => [...document.querySelectorAll('#tabs [role="tab"][data-tab-id]')];
  const openTab = () => tabs().find((tab) => tab.getAttribute('aria-selected') === 'true')?.dataset.tabId;
  const exampleOf = (tab) => document.querySelector(`#${tab} .example`)?.dataset.address ?? '';

  function viewOf(tab) {
    return [...document.querySelectorAll(`#${tab} [data-address]`)].map((node) => node.dataset.address)
      .filter(Boolean).join('&');
  }

  function addressOf(tab, view) {
    const foreign = partsOf(window.location.search).filter(isForeign);
    const parts = [tab === FIRST ? '' : `tab=${tab}`, view, ...foreign].filter(Boolean);
    return window.location.pathname + (parts.length ? `?${parts.join('&')}` : '');
  }

  const start = tabNow();
  const ARRIVING = 'arriving'; // no flash of the first tab where the URL names another, and no parts that push others away
  document.documentElement.classList.add(ARRIVING);
  const unveil = () => document.documentElement.classList.remove(ARRIVING);
  setTimeout(unveil, 5000);
  const PARTS = ['picture', 'examples', 'caption-b', 'score', 'settings', 'answer'];
  const isWanted = (id) => propsOf(id).visible !== false;
  const parts = new MutationObserver(() => {
    if (!PARTS.filter(isWanted).every((id) => document.getElementById(id))) return;
    parts.disconnect();
    requestAnimationFrame(() => requestAnimationFrame(unveil));
  });
  if (start === FIRST) parts.observe(document.documentElement, {childList: true, subtree: true});
  let waiting = 1; // views that were asked for and have not arrived
  let arrived = 0; // when the last one did
  let asked = {}; // by tab, the queries of the last one
  let goingTo = null; // the tab that was asked for and is not open yet
  let hasMoved = false; // whether the visitor has chosen a tab
  const early = []; // the tabs that were chosen while a view was on its way: each becomes an entry once that is here
  let isStep = false; // whether the next example is a neighbour: stepping makes no entries
  let shownTab = null, shownExample = '';

  function follow() {
    const open = openTab();
    if (!open || waiting || (goingTo && open !== goingTo)) return;
    goingTo = null;
    note(open);
  }

  /* Notes an open tab and its view in the browser's history. */
  function note(open) {
    const example = exampleOf(open);
    const isOther = open !== shownTab, isOpened = example && example !== shownExample && !isStep;
    views[open] = viewOf(open);
    const address = addressOf(open, views[open]);
    const isEntry = shownTab && (isOther || isOpened);
    if (address !== window.location.pathname + window.location.search) {
      window.history[isEntry ? 'pushState' : 'replaceState'](null, '', address + window.location.hash);
    }
    if (isOther && shownTab && document.getElementById('tabs').getBoundingClientRect().top < 0) window.scrollTo(0, 0);
    if (example !== shownExample) isStep = false;
    [shownTab, shownExample] = [open, example];
  }

  function go(tab) {
    const node = tabs().find((one) => one.dataset.tabId === tab);
    if (!node || tab === openTab()) return;
    goingTo = tab;
    node.click();
  }

  /* Notes what the server is to open: at first the views of all tabs, later that of the URL. */
  function ask() {
    const tab = tabNow(), query = queryOf(window.location.search);
    asked = isFirst ? {...views} : {};
    if (!isFirst || query || tab !== FIRST) asked[tab] = query;
    if (isFirst && !asked[FIRST]) delete asked[FIRST]; // the page opens with that question
  }

  const wanted = () => JSON.stringify({
    tab: tabNow(), queries: asked, held: Boolean(isFirst && held), again: isBack || !isFirst,
  });
  /* Tabs that are about to be filled in, or just were (with a `~`): opening one of them asks for nothing more. */
  function coming() {
    if (!waiting && Date.now() - arrived > SETTLED) return '';
    return Object.keys(asked).map((tab) => (waiting ? tab : `~${tab}`)).join(',');
  }
  ask();

  function arrive() {
    waiting = Math.max(0, waiting - 1);
    if (waiting) return;
    arrived = Date.now();
    if (shownTab === null) shownTab = start;
    unveil(); // the tab opens before the next frame
    if (!hasMoved) go(tabNow());
    const known = tabs().some((one) => one.dataset.tabId === tabNow()) ? tabNow() : openTab();
    if (!hasMoved) [shownTab, shownExample] = [known, exampleOf(known)];
    early.splice(0).forEach(note);
    follow();
  }

  /* Whether a question is about a picture that no URL holds: the page's own question never replaces it. */
  const isOfUpload = (query) => /(^|&)[ab]=/.test(query) && !/(^|&)(example|scene)=/.test(query);

  /* Back and Forward: what is already on the page is only shown again. */
  function show() {
    const tab = tabNow(), query = queryOf(window.location.search);
    hasMoved = false;
    early.length = 0;
    const shown = views[tab] ?? '';
    const isShown = query === shown || (tab === FIRST && !query && isOfUpload(shown));
    waiting += isShown ? 0 : 1;
    if (!isShown) ask();
    go(tab);
    [shownTab, shownExample] = [tab, exampleOf(tab)];
    if (!isShown) window.sdsdemoAddress.open();
  }

  window.addEventListener('popstate', show);

  /* A link to another view of the page opens it without a reload; a click that asks for a new window is left alone. */
  document.addEventListener('click', (event) => {
    const link = event.target.closest?.('a[data-view]');
    if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    const foreign = partsOf(window.location.search).filter(isForeign);
    window.history.pushState(null, '', [link.getAttribute('href'), ...foreign].join('&'));
    show();
    if (document.getElementById('tabs').getBoundingClientRect().top < 0) window.scrollTo(0, 0);
  });

  document.addEventListener('click', ({target, isTrusted}) => {
    const tab = isTrusted && target.closest?.('#tabs [role="tab"]');
    if (!tab) return;
    [hasMoved, goingTo] = [true, null];
    if (waiting) early.push(tab.dataset.tabId);
  }, true);

  let isDue = false;
  new MutationObserver(() => {
    if (openTab() !== shownTab) follow(); // at once: Back may be pressed next
    if (isDue) return;
    isDue = true;
    setTimeout(() => { isDue = false; follow(); });
  }).observe(document, {
    subtree: true, childList: true, attributes: true, attributeFilter: ['aria-selected', 'data-address'],
  });

  window.addEventListener('pagehide', () => {
    const form = read(FORM);
    const isStale = document.getElementById('result')?.classList.contains('stale');
    if (form) write(FORM, {...form, answered: !isStale && !document.querySelector('#answer [aria-busy="true"]')});
    write(VIEWS, {...views, [tabNow()]: queryOf(window.location.search)});
  });

  const isWaiting = () => waiting > 0; // until the view is here, the URL does not follow
  window.sdsdemoAddress = {wanted, coming, isWaiting, step: () => { isStep = true; }, open: () => {}};
})();
