"""What is looked at: benchmarks and the Mini world. Reads and draws; never scores."""
