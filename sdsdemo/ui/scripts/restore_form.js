(ids, gone) => { // of navigation.js, as what the other two call
  return window.sdsdemoForm.restored(ids, gone);
}
