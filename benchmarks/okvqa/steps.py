"""Steps of a long run: the project's own commands, each in a process of its own, passed over where their product is there.

A product is believed only if the same command made it, from products that have not been made anew since: what was asked,
configuration files resolved, stands beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.okvqa.fit import learned_parts
from gemkr.config.files import load_config, to_mapping
from gemkr.errors import DataError, GemkrError
from gemkr.evaluation.config import EvalConfig
from gemkr.files import write_atomically
from gemkr.training.config import PretrainConfig, TrainConfig

CONFIGURED = {"pretrain": PretrainConfig, "train": TrainConfig, "eval": EvalConfig, "fit": EvalConfig}
"""Commands whose first word is a configuration file, the others settings in it; `fit` names a retriever between the two."""


def step(product: Path, *command: object) -> None:
    """Run a gemkr command unless its product is there; a failure ends the program with the command's own message.

    Raises DataError when the product is there and another command made it, or one that is not known.
    """
    words = [str(word) for word in command]
    asked = _asked(words)
    if product.exists():
        _require_same(product, asked)
        print(f"there already: {product}", flush=True)
        return
    print("gemkr", *words, flush=True)
    began = time.perf_counter()
    code = _run(words)
    if code:
        sys.exit(code)
    made = {**asked, "from": _sources(asked, product), "made": time.time_ns()}
    write_atomically(_note(product), json.dumps(made, indent=1) + "\n")
    print(f"{time.perf_counter() - began:.0f} s", flush=True)


def require_files(*files: Path) -> None:
    """DataError naming the first that is missing: found out now, not in the second hour."""
    for file in files:
        if not file.is_file():
            raise DataError(f"{file} is missing; set GEMKR_SHARED to the folder that holds data/")


def answer(name: str, work: Callable[[], None]) -> int:
    """Exit status of a driver: 0 with its minutes told, or 1 with one sentence of what went wrong."""
    began = time.perf_counter()
    try:
        work()
    except GemkrError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    print(f"all steps of this run: {(time.perf_counter() - began) / 60:.0f} minutes")
    return 0


def interrupted(output: Path) -> list[str]:
    """The words with which a training goes on whose checkpoints are there but not its product; none for a new one."""
    return ["--resume", "auto"] if list(output.glob("step-*")) else []


def _asked(words: list[str]) -> dict[str, Any]:
    """What decides a command's product: its words but for --resume, and where they name settings, all of them."""
    if "--resume" in words:
        at = words.index("--resume")
        words = words[:at] + words[at + 2 :]
    kind = CONFIGURED.get(words[0])
    if kind is None:
        return {"command": words}
    if words[0] == "fit":
        return {"command": words[:2], "settings": _learned(load_config(words[1], kind, words[3:]), words[2])}
    settings = json.loads(json.dumps(to_mapping(load_config(words[1], kind, words[2:]))))
    return {"command": words[:2], "settings": settings}


def _learned(config: EvalConfig, name: str) -> dict[str, Any]:
    """The settings that alone decide what is learned for a retriever: those of its parts that learn, and the corpus."""
    parts = [part.config for part in learned_parts(config.retrievers[name])]
    return {"corpus": config.corpus, **{type(part).__name__: to_mapping(part) for part in parts}}


def _note(product: Path) -> Path:
    """Where it stands what made a product."""
    return product.with_name(f".{product.name}.made-by.json")


def _sources(asked: Mapping[str, Any], product: Path) -> dict[str, int]:
    """When the other products that a command names were made, by path."""
    named = {path for path in map(Path, _texts(asked)) if path.name} - {product}
    found = {str(path): _read(_note(path)).get("made") for path in sorted(named)}
    return {path: made for path, made in found.items() if made is not None}


def _read(note: Path) -> dict[str, Any]:
    """What a note tells, nothing where there is none that can be read."""
    try:
        told = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _texts(value: Any) -> Iterator[str]:
    """All texts inside mappings and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (Mapping, list)):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)


def _require_same(product: Path, asked: Mapping[str, Any]) -> None:
    way_out = "remove it, or give another --folder"
    made = _read(_note(product))
    if not made:
        raise DataError(f"{product} is there and nothing tells which command made it; {way_out}")
    sources = made.pop("from", {})
    made.pop("made", None)
    now, before = _flat(asked), _flat(made)
    for key in sorted(now.keys() | before.keys()):
        if now.get(key) != before.get(key):
            raise DataError(
                f"{product} was made with {key} = {before.get(key)!r}, now it is {now.get(key)!r}; {way_out}"
            )
    for path, when in _sources(asked, product).items():
        if sources.get(path) != when:
            raise DataError(
                f"{product} was made from an earlier {path}, which was made anew since; {way_out}"
            )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _run(words: list[str]) -> int:
    """Exit status of a gemkr command. Ctrl-C reaches it as well, and is left to it: a training saves before it ends."""
    module = ["benchmarks.okvqa.fit", *words[1:]] if words[0] == "fit" else ["gemkr", *words]
    with subprocess.Popen([sys.executable, "-m", *module]) as child:
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:
                continue
