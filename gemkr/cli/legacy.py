"""The command line that readers of the paper know: `--cfg-path FILE --options key=value …`, translated to the commands of gemkr.

`train.py`, `eval.py` and the scripts of `data_process/` hand their arguments through here to `gemkr`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def translate(argv: Sequence[str]) -> list[str]:
    """`--cfg-path X` becomes the positional X, `--options a=1 b=2` the overrides after it; the rest stays.

    >>> translate(["--options", "k=5", "--cfg-path", "eval.yaml"])
    ['eval.yaml', 'k=5']
    """
    config: list[str] = []
    others: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        if word == "--cfg-path" and words:
            config.append(words.pop(0))
        elif word.startswith("--cfg-path="):
            config.append(word.partition("=")[2])
        elif word.startswith("--options="):
            others.append(word.partition("=")[2])
        elif word != "--options":
            others.append(word)
    return config + others


def main(*command: str, argv: Sequence[str] | None = None) -> int:
    """Run `gemkr COMMAND …` with the arguments of this process (or `argv`), translated; returns the exit status."""
    from gemkr.cli import main as gemkr

    return gemkr([*command, *translate(sys.argv[1:] if argv is None else argv)])
