(ids, ...now) => {
  window.sdsdemoForm.keep(ids, now);
}
