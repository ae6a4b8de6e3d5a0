"""The maths, pure: losses, metrics, decisions, intervals over bases and seeds, other readings of a score."""
