"""`python -m gemkr`, and what the command `gemkr` calls."""

import sys


def main() -> int:
    """The command line; one sentence in place of a traceback where the C++ extension is not built."""
    try:
        from gemkr.cli import main as command
    except ImportError as error:
        if "extension is not built" not in str(error):
            raise
        print(f"gemkr: {error}", file=sys.stderr)
        return 1
    return command()


if __name__ == "__main__":
    raise SystemExit(main())
