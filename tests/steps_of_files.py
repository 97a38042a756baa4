"""Processes that end before one of the steps that they take on the file system, as by kill -9."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

STEPS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}


def end_at(step: int) -> None:
    """End this process before its file operation number `step`, from 0."""
    done = 0

    def count(event: str, args: tuple) -> None:
        nonlocal done
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if event in STEPS or writes:
            if done == step:
                os._exit(9)
            done += 1

    sys.addaudithook(count)


def in_child(act: Callable[[], None], step: int | None) -> int:
    """The process id of a child that makes a change."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if step is not None:
                end_at(step)
            act()
            code = 0
        finally:
            os._exit(code)
    return child
