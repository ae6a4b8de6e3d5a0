"""The machine below everything else: files, locks, and what a file must look like. Knows nothing of this project."""
