() => { // request_order.js counts typing, and notes when the form is submitted
  window.sdsdemoEdits = (window.sdsdemoEdits ?? 0) + 1;
}
