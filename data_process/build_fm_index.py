"""`python data_process/build_fm_index.py ...` is `gemkr index build ...`, under the name that the paper's readers know."""

import sys

from gemkr.cli import main

if __name__ == "__main__":
    sys.exit(main(["index", "build", *sys.argv[1:]]))
