/* Applies answers in the order of their requests, on any network.

Every request of the page carries a number. An answer fills a component only if the component does not already show the
answer to a later request; that part of an older answer is dropped, and the rest is applied. If the visitor has since changed
a field, and the change made a request of its own, the field keeps its value and gets its new choices. Queued answers arrive
in the server's own stream, so the components that they fill count as shown from the moment of the request. The server reads
the number as well (ui/request_order.py), so that what it streams and remembers is in order too. */
(() => {
  const shown = new Map(); // component -> number of the request whose answer it shows
  const changed = new Map(); // component -> number of the request made by the visitor's last change of it
  const plain = window.fetch.bind(window);
  const skip = {__type__: 'update'};
  let lastNumber = 0, hasLost = false; // an answer never arrived: the server then sends everything again

  /* An empty update; that of an HTML component contains another one, of its props. */
  const isSkip = (value) => value?.__type__ === 'update' && Object.entries(value).every(
    ([key, held]) => key === '__type__' || (key === 'props' && isSkip(held)));

  const later = (numbers, component, number) => (numbers.get(component) ?? 0) > number;

  /* An update without its value: only the choices of a field, for example. */
  function withoutValue(value) {
    if (value?.__type__ !== 'update') return skip;
    const {value: _, ...rest} = value;
    return rest;
  }

  /* Ranks a value by the click that opened what it shows, if it names one, and then by the number of this request. */
  function rank(value, number) {
    const opened = typeof value === 'string' ? value.match(/^<[^>]* data-request="(\d+)"/)?.[1] : null;
    return Number(opened ?? number) + number / 1e6;
  }

  function inOrder(body, number, outputs) {
    body.data = body.data.map((value, place) => {
      const component = outputs[place];
      if (later(shown, component, rank(value, number))) return skip;
      if (later(changed, component, number)) return withoutValue(value);
      if (!isSkip(value)) shown.set(component, rank(value, number));
      return value;
    });
    return body;
  }

  /* Each request for an answer is noted with the form, since Gradio may report a change long after the request that was made
  for it, and with how often the question had been edited: a later edit makes the answer stale. */
  const questions = new Map(); // number of a request -> the form and its edits
  let asked = null; // the last of them
  const FIELDS = '#caption-a textarea, #caption-b textarea, #settings input';
  /* As the page shows it: a script that took the fields as inputs would make Gradio report changes for ever. */
  const formNow = () => new Map([
    ['picture', document.querySelector('#picture img')?.getAttribute('src')],
    ...[...document.querySelectorAll(FIELDS)].map((field) => [
      `${field.closest('[id]').id} ${field.type}`, field.type === 'checkbox' ? field.checked : field.value]),
  ]);
  /* Settings are on the page only once they have been opened: those that were not there are as they were, unless edited. */
  const isSame = (before, now) => [...before].every(([name, value]) => !now.has(name) || now.get(name) === value);
  const isNow = ({form, edits}) => edits === (window.sdsdemoEdits ?? 0) && isSame(form, formNow());
  /* Whether the form is as it was last asked about; null before anything was asked. */
  window.sdsdemoIsAsked = () => asked && isNow(asked);
  /* Whether the answer on the page is that to the form as it is now. */
  window.sdsdemoIsAnswered = () => {
    const answered = questions.get(Number(document.querySelector('#answer [data-asked]')?.dataset.asked));
    return answered !== undefined && isNow(answered);
  };
  const answerField = () => window.gradio_config?.components.find((one) => one.props?.elem_id === 'answer')?.id;
  document.addEventListener('input', ({target}) => {
    if (target.closest?.('#question')) window.sdsdemoEdits = (window.sdsdemoEdits ?? 0) + 1;
  }, true);

  window.fetch = async (input, options = {}) => {
    const address = String(input?.url ?? input);
    const isCall = /\/(run|queue\/join)\b/.test(address) && typeof options.body === 'string';
    if (!isCall) return plain(input, options);
    const number = ++lastNumber;
    const call = JSON.parse(options.body);
    const event = window.gradio_config?.dependencies.find((one) => one.id === call.fn_index);
    const isQueued = address.includes('/queue/join');
    const isInput = event?.targets.some(([component, name]) => component === call.trigger_id && name === 'input');
    if (isInput) changed.set(call.trigger_id, number);
    if (isQueued && event?.outputs.includes(answerField())) {
      asked = {form: formNow(), edits: window.sdsdemoEdits ?? 0};
      questions.set(number, asked);
    }
    if (isQueued) event?.outputs.forEach((component) => shown.set(component, rank(null, number)));
    const headers = new Headers(options.headers);
    headers.set('x-sdsdemo-request', String(number));
    if (window.sdsdemoAddress?.coming()) headers.set('x-sdsdemo-coming', window.sdsdemoAddress.coming());
    if (hasLost) headers.set('x-sdsdemo-lost', '1');
    const answer = await plain(input, {...options, headers}).catch((error) => { hasLost = true; throw error; });
    hasLost ||= !answer.ok;
    if (!answer.ok || isQueued) return answer;
    const body = await answer.clone().json().catch(() => null);
    if (!event || !Array.isArray(body?.data)) return answer;
    return new Response(JSON.stringify(inOrder(body, number, event.outputs)), {
      status: answer.status,
      headers: {'content-type': 'application/json'},
    });
  };
})();
