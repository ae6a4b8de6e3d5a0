"""Pure maths: losses, metrics, decisions, intervals over bases and seeds, score variants."""
