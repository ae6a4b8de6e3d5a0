(ids, gone) => { // defined in navigation.js, like the functions behind keep_form.js and score_again.js
  return window.sdsdemoForm.restored(ids, gone);
}
