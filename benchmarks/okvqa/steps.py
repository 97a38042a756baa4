"""Steps of a long run: the project's own commands, each in its own process, skipped where their product exists.

A product is reused only if the same command made it, from products that have not been made again since: the command, with
its configuration file resolved, is recorded beside it.
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

CONFIG_CLASSES = {"pretrain": PretrainConfig, "train": TrainConfig, "eval": EvalConfig, "fit": EvalConfig}
"""Commands whose first word is a configuration file, the others settings in it; `fit` names a retriever between the two."""


def step(product: Path, *command: object) -> None:
    """Run a gemkr command unless its product is there; a failure ends the program with the command's own message.

    Raises DataError when the product is there and another command made it, or one that is not known.
    """
    words = [str(word) for word in command]
    record = _command_record(words)
    if product.exists():
        _require_same(product, record)
        print(f"there already: {product}", flush=True)
        return
    print("gemkr", *words, flush=True)
    began = time.perf_counter()
    code = _run(words)
    if code:
        sys.exit(code)
    made = {**record, "from": _sources(record, product), "made": time.time_ns()}
    write_atomically(_record_path(product), json.dumps(made, indent=1) + "\n")
    print(f"{time.perf_counter() - began:.0f} s", flush=True)


def require_files(*files: Path) -> None:
    """DataError naming the first missing file, before the run starts."""
    for file in files:
        if not file.is_file():
            raise DataError(f"{file} is missing; set GEMKR_SHARED to the folder that holds data/")


def exit_status(name: str, work: Callable[[], None]) -> int:
    """Exit status of a driver: 0 after its minutes are printed, or 1 after one sentence about the error."""
    began = time.perf_counter()
    try:
        work()
    except GemkrError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    print(f"all steps of this run: {(time.perf_counter() - began) / 60:.0f} minutes")
    return 0


def resume_options(output: Path) -> list[str]:
    """The options that resume a training with checkpoints but without a product; none for a new one."""
    return ["--resume", "auto"] if list(output.glob("step-*")) else []


def _command_record(words: list[str]) -> dict[str, Any]:
    """What decides a command's product: its words without --resume, and for a configuration file all of its settings."""
    if "--resume" in words:
        at = words.index("--resume")
        words = words[:at] + words[at + 2 :]
    kind = CONFIG_CLASSES.get(words[0])
    if kind is None:
        return {"command": words}
    if words[0] == "fit":
        return {
            "command": words[:2],
            "settings": _learned_settings(load_config(words[1], kind, words[3:]), words[2]),
        }
    settings = json.loads(json.dumps(to_mapping(load_config(words[1], kind, words[2:]))))
    return {"command": words[:2], "settings": settings}


def _learned_settings(config: EvalConfig, name: str) -> dict[str, Any]:
    """The settings that alone decide what is learned for a retriever: those of its parts that learn, and the corpus."""
    parts = [part.config for part in learned_parts(config.retrievers[name])]
    return {"corpus": config.corpus, **{type(part).__name__: to_mapping(part) for part in parts}}


def _record_path(product: Path) -> Path:
    """The file that records what made a product."""
    return product.with_name(f".{product.name}.made-by.json")


def _sources(record: Mapping[str, Any], product: Path) -> dict[str, int]:
    """When the other products that a command names were made, by path."""
    named = {path for path in map(Path, _texts(record)) if path.name} - {product}
    found = {str(path): _read(_record_path(path)).get("made") for path in sorted(named)}
    return {path: made for path, made in found.items() if made is not None}


def _read(path: Path) -> dict[str, Any]:
    """The contents of a record, empty where there is none that can be read."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _texts(value: Any) -> Iterator[str]:
    """All texts inside mappings and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (Mapping, list)):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)


def _require_same(product: Path, record: Mapping[str, Any]) -> None:
    remedy = "remove it, or give another --folder"
    made = _read(_record_path(product))
    if not made:
        raise DataError(f"{product} is there and no record says which command made it; {remedy}")
    sources = made.pop("from", {})
    made.pop("made", None)
    now, before = _flat(record), _flat(made)
    for key in sorted(now.keys() | before.keys()):
        if now.get(key) != before.get(key):
            raise DataError(
                f"{product} was made with {key} = {before.get(key)!r}, now it is {now.get(key)!r}; {remedy}"
            )
    for path, when in _sources(record, product).items():
        if sources.get(path) != when:
            raise DataError(
                f"{product} was made from an earlier {path}, which was made again since; {remedy}"
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
