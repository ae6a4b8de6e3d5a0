"""What the authors of a benchmark publish: its parts and counts, its averages, its numbers."""
