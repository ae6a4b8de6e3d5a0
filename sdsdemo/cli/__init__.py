"""The command line: `python -m sdsdemo VERB`."""
