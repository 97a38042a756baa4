"""Document recall of a trained model: `gemkr eval` under the name that readers of the paper know."""

from gemkr.cli.legacy import main

if __name__ == "__main__":
    raise SystemExit(main("eval"))
