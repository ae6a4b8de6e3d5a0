"""The drawn world: scenes, sentences, pictures, and the benchmarks made of them."""
