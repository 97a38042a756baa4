"""`python -m gemkr` is the `gemkr` command."""

import sys

from gemkr.cli import main

sys.exit(main())
