(usual, most, adaptive, noises) => { // as many draws as stopping early may need, unless the visitor chose a number
  if (adaptive) return noises === usual ? most : noises;
  return noises === most ? usual : noises;
}
