"""A benchmark scored, kept, summarised, reported, drawn."""
