(objective) => { // the style sheet hides the settings of other objectives; they keep their values
  document.documentElement.dataset.objective = objective;
}
