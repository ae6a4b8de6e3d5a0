/* Answers in the order of their questions, on any network.

Every request of the page carries a number. An answer fills a component only where that does not show the answer of a later
request already: what an older one would have put there is dropped, and the rest of it is kept. A field that a visitor has
changed since, where that change made a request of its own, keeps its value and gets its new choices. An answer of the queue
comes back in the server's own stream, so all that it will fill counts as shown as soon as it is asked for. The server reads
the number as well (ui/request_order.py), so that what it streams and remembers is in order too. */
(() => {
  const shown = new Map(); // component -> number of the request whose answer it shows
  const changed = new Map(); // component -> number of the request that a visitor's last change of it made
  const plain = window.fetch.bind(window);
  const skip = {__type__: 'update'};
  let asked = 0;

  /* An update of nothing; that of an HTML component holds one more, of its props. */
  const isSkip = (value) => value?.__type__ === 'update' && Object.entries(value).every(
    ([key, held]) => key === '__type__' || (key === 'props' && isSkip(held)));

  const later = (numbers, component, number) => (numbers.get(component) ?? 0) > number;

  /* An update without its value: the choices of a field, say. */
  function withoutValue(value) {
    if (value?.__type__ !== 'update') return skip;
    const {value: _, ...rest} = value;
    return rest;
  }

  /* What a value is the answer to: the click that opened what it shows, where it says so, and only then this request. */
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

  /* Edits of the question, and how many there were when its answer was asked for: a later one makes that answer old. */
  const answerField = () => window.gradio_config?.components.find((one) => one.props?.elem_id === 'answer')?.id;
  document.addEventListener('input', ({target}) => {
    if (target.closest?.('#question')) window.sdsdemoEdits = (window.sdsdemoEdits ?? 0) + 1;
  }, true);

  window.fetch = async (input, options = {}) => {
    const address = String(input?.url ?? input);
    const isCall = /\/(run|queue\/join)\b/.test(address) && typeof options.body === 'string';
    if (!isCall) return plain(input, options);
    const number = ++asked;
    const call = JSON.parse(options.body);
    const event = window.gradio_config?.dependencies.find((one) => one.id === call.fn_index);
    const isQueued = address.includes('/queue/join');
    const isInput = event?.targets.some(([component, name]) => component === call.trigger_id && name === 'input');
    if (isInput) changed.set(call.trigger_id, number);
    if (isQueued && event?.outputs.includes(answerField())) window.sdsdemoAsked = window.sdsdemoEdits ?? 0;
    if (isQueued) event?.outputs.forEach((component) => shown.set(component, rank(null, number)));
    const headers = new Headers(options.headers);
    headers.set('x-sdsdemo-request', String(number));
    const answer = await plain(input, {...options, headers});
    if (!answer.ok || isQueued) return answer;
    const body = await answer.clone().json().catch(() => null);
    if (!event || !Array.isArray(body?.data)) return answer;
    return new Response(JSON.stringify(inOrder(body, number, event.outputs)), {
      status: answer.status,
      headers: {'content-type': 'application/json'},
    });
  };
})();
