() => { // defined in navigation.js
  return [window.sdsdemoAddress.wanted()];
}
