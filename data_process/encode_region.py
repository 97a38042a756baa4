"""`python data_process/encode_region.py detect|encode ...` is `gemkr regions ...`, under the name that the paper's readers know."""

import sys

from gemkr.cli import main

if __name__ == "__main__":
    sys.exit(main(["regions", *sys.argv[1:]]))
