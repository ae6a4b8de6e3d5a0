() => '' // margins of one model mean nothing for another
