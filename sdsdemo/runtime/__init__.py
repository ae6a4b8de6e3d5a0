"""The machine: files, locks, processes, and the shapes of data in files. Knows nothing of this project."""
