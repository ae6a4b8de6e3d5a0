(objective) => { // for the style sheet, which hides the settings of other objectives; they keep their values
  document.documentElement.dataset.objective = objective;
}
