"""`python -m sdsdemo COMMAND`."""

import sys

from sdsdemo.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
