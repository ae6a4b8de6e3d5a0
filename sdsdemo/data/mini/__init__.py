"""The Mini world: scenes, sentences, pictures, and the benchmarks built from them."""
