"""Names of tensors in messages: all of them, in few words."""

from __future__ import annotations

import re
from collections.abc import Iterable


def listed(names: Iterable[str]) -> str:
    """All names, those that differ in one number together: `layers.{0-31}.q_proj`."""
    families: dict[tuple[str, str], list[int]] = {}
    for name in sorted(names):
        number = re.search(r"\d+", name)
        if number is None:
            families[name, ""] = []
        else:
            families.setdefault((name[: number.start()], name[number.end() :]), []).append(int(number[0]))
    return ", ".join(f"{before}{_numbers(n)}{after}" for (before, after), n in families.items())


def _numbers(numbers: list[int]) -> str:
    """`7`, `{0-31}` or `{1,4,5}`."""
    if len(numbers) < 2:
        return "".join(map(str, numbers))
    numbers = sorted(numbers)
    if numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{{{numbers[0]}-{numbers[-1]}}}"
    return f"{{{','.join(map(str, numbers))}}}"
