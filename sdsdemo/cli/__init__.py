"""The command line: `python -m sdsdemo COMMAND`."""
