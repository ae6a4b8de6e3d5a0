"""`python -m sdsdemo VERB`."""

import sys

from sdsdemo.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
