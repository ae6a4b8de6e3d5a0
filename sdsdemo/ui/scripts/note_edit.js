() => { // of what is typed, and of when the form is asked about, request_order.js takes note
  window.sdsdemoEdits = (window.sdsdemoEdits ?? 0) + 1;
}
