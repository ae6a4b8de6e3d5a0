/* Answers in the order of their questions, on any network.

Every request of the page carries a number. An answer fills a component only where that does not show the answer of a
later request already: what an older one would have put there is thrown away, and the rest of it is kept. The server
reads the number as well (ui/order.py), so that what it remembers of a visitor is in order too. */
(() => {
  const shown = new Map(); // component -> number of the request whose answer it shows
  const plain = window.fetch.bind(window);
  const skip = {__type__: 'update'};
  let asked = 0;

  const isSkip = (value) => value?.__type__ === 'update' && Object.keys(value).length === 1;

  function inOrder(body, number, outputs) {
    body.data = body.data.map((value, place) => {
      const component = outputs[place];
      if ((shown.get(component) ?? 0) > number) return skip;
      if (!isSkip(value)) shown.set(component, number);
      return value;
    });
    return body;
  }

  window.fetch = async (input, options = {}) => {
    const address = String(input?.url ?? input);
    const isCall = /\/(run|queue\/join)\b/.test(address) && typeof options.body === 'string';
    if (!isCall) return plain(input, options);
    const number = ++asked;
    const headers = new Headers(options.headers);
    headers.set('x-sdsdemo-request', String(number));
    const answer = await plain(input, {...options, headers});
    if (!answer.ok || address.includes('/queue/join')) return answer;
    const body = await answer.clone().json().catch(() => null);
    const call = JSON.parse(options.body);
    const event = window.gradio_config?.dependencies.find((one) => one.id === call.fn_index);
    if (!event || !Array.isArray(body?.data)) return answer;
    return new Response(JSON.stringify(inOrder(body, number, event.outputs)), {
      status: answer.status,
      headers: {'content-type': 'application/json'},
    });
  };
})();
