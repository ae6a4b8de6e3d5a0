"""Kills and full disks at any moment, at each place that writes, and what must be true afterwards.

writes     counts the moments of a process's writes, and kills it or fills its disk at one of them
places     what is run, what must be there after it was cut short, and when the end counts as the same
campaign   many cuts from a seed, each in a process of its own; `python -m tests.faults` prints a table
"""
