"""Fine-tuning: `gemkr train` under the name that readers of the paper know."""

from gemkr.cli.legacy import main

if __name__ == "__main__":
    raise SystemExit(main("train"))
