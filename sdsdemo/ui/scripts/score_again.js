() => {
  window.sdsdemoForm.scoreAgain();
}
