"""`python -m vidlmm`: the same as the `vidlmm` command."""

import sys

from vidlmm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
