"""From YAML and `key=value` overrides to the dataclasses of settings, checked against their annotations.

The only file that imports omegaconf. Unknown keys fail and name the nearest known one. Paths may hold `${oc.env:NAME}` or
`${oc.env:NAME,default}`; `paths.py` says where relative ones count from.
"""

from __future__ import annotations

import dataclasses
import math
import re
import reprlib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from gemkr.config.known_keys import is_string, stands_deeper, suggest_key, without_none
from gemkr.config.packaged import base_of
from gemkr.config.paths import PathSetting, mark, unmark
from gemkr.config.section import Section
from gemkr.errors import ConfigError

T = TypeVar("T")
NULL_TEXTS = ("", "~", "null", "Null", "NULL")
"""What stands for None in an override, as in YAML."""


def load_config(path: str | Path, kind: type[T], overrides: Sequence[str] = ()) -> T:
    """Read a YAML file into the dataclass `kind`, then apply `key=value` overrides (dots reach inside).

    An override of a string is taken as it stands (`output=007`), any other as YAML. Relative paths in the file count from its
    folder (in a packaged one, from the current folder), those of overrides and environment variables from the current folder.
    Raises ConfigError for a missing file, broken YAML, an unknown key (naming the nearest one), a missing
    required key, a value of the wrong type, or an environment variable that is not set.
    """
    path = Path(path)
    return from_mapping(_read_yaml(path, overrides, kind), kind, str(path), base_of(path))


def load_section(path: str | Path, section: str, kind: type[T], overrides: Sequence[str] = ()) -> T:
    """One section of a configuration as the dataclass `kind`, after overrides (`model.llm=…`); the rest is not looked at.

    Raises ConfigError as `load_config` does, and for a file without that section.
    """
    path = Path(path)
    values = _read_yaml(path, overrides, kind, section=section)
    return from_mapping(values, kind, f"{path}: {section}", base_of(path))


def load_part(path: str | Path, section: str, kind: type[T], overrides: Sequence[str] = ()) -> T:
    """As `load_section`, where `kind` has the section as a field of that name: for one whose own `kind` names its class."""
    path = Path(path)
    values = _read_yaml(path, overrides, kind, section=section)
    return from_mapping({section: values}, kind, str(path), base_of(path))


def has_section(path: str | Path, section: str) -> bool:
    """Whether a YAML file has a section of that name; False where it cannot be read, which `load_config` complains about."""
    try:
        loaded = OmegaConf.load(path)
    except (OSError, ValueError, OmegaConfBaseException):
        return False
    except Exception as error:
        if type(error).__module__.startswith("yaml"):
            return False
        raise
    return isinstance(loaded, DictConfig) and section in loaded


def _read_yaml(
    path: Path, overrides: Sequence[str], kind: type, section: str | None = None
) -> dict[str, Any]:
    """The resolved settings of a file, or of one of its sections, which make a `kind`."""
    if not path.is_file():
        wrong = "is not a file" if path.exists() else "does not exist"
        raise ConfigError(
            f"the configuration {path} {wrong}; name a file, or one of the package's by its name alone, such as small"
        )
    for override in overrides:
        if "=" not in override:
            raise ConfigError(f"the override {override!r} is not of the form key=value")
    try:
        loaded = OmegaConf.load(path)
        given = OmegaConf.create()
        for override in overrides:
            key, text = override.split("=", 1)
            inside = key if section is None else key.removeprefix(f"{section}.")
            if text not in NULL_TEXTS and is_string(kind, inside):
                OmegaConf.update(given, key, text)
            else:
                given.merge_with_dotlist([override])
        merged = OmegaConf.merge(_marked(loaded), _marked(given, given=True))
        if section is not None:
            merged = OmegaConf.select(merged, section)
            if not isinstance(merged, DictConfig):
                raise ConfigError(
                    f"{path} has no section {section!r}; name a file that describes a {section}"
                )
        values = OmegaConf.to_container(merged, resolve=True)
    except InterpolationResolutionError as error:
        unset = re.search(r"Environment variable '(\w+)' not found", str(error))
        if unset is None:
            raise ConfigError(f"{path}: {str(error).splitlines()[0]}") from error
        raise ConfigError(
            f"{path}: {error.full_key} is the environment variable {unset[1]}, which is not set; export it, or give "
            f"{error.full_key}=..."
        ) from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {str(error).splitlines()[0]}") from error
    except (TypeError, IndexError, UnicodeEncodeError) as error:  # of omegaconf, where it merges
        raise ConfigError(
            f"{path}: {list(overrides)!a} cannot be put into the file ({error}); give a list as a whole: evaluate=[bm25]"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text, so it is no YAML; name a configuration") from error
    except OSError as error:
        raise ConfigError(f"the configuration {path} cannot be read: {error.strerror}") from error
    except Exception as error:
        if type(error).__module__.startswith("yaml"):
            raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
        raise
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping of settings, it holds {type(values).__name__}")
    return unmark(values)


def _marked(config: Any, *, given: bool = False) -> Any:
    """A configuration whose texts record whether they count from the current folder."""
    return OmegaConf.create(mark(OmegaConf.to_container(config), given=given))


def to_mapping(config: Any) -> dict[str, Any]:
    """The plain nested dict of a configuration, fit for json and YAML; what reading it again gives the same."""
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return {"kind": value.kind, **to_mapping(value.config)}
    if dataclasses.is_dataclass(value):
        return to_mapping(value)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value


def from_mapping(values: dict[str, Any], kind: type[T], where: str, base: Path | None = None) -> T:
    """A dataclass from a nested dict, checked against its annotations; `where` opens the error messages.

    Relative paths count from the folder `base`, and where there is none from the current folder.

    A class may explain a key that it does not have: `explain_unknown(key)`, a sentence or None.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind, include_extras=True)
    for key in values:
        if key not in fields:
            explained = getattr(kind, "explain_unknown", lambda key: None)(key)
            if explained and not stands_deeper(str(key), kind, values):
                raise ConfigError(f"{where}: {explained}")
            known = suggest_key(str(key), kind, values)
            if isinstance(key, bool):
                known = 'YAML reads a bare yes, no, on or off as true or false; put the key in quotes, such as "yes"'
            raise ConfigError(f"{where}: unknown key {reprlib.repr(key)}; {known}")
    missing = [n for n, f in fields.items() if n not in values and _required(f)]
    if missing:
        raise ConfigError(f"{where}: the required key {missing[0]!r} is missing")
    return kind(
        **{key: _convert(value, hints[key], f"{where}: {key}", base) for key, value in values.items()}
    )


def _required(f: dataclasses.Field) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _convert(
    value: Any, hint: Any, where: str, base: Path | None = None, *, allows_infinity: bool = False
) -> Any:
    if hint is Any:
        return value
    origin = typing.get_origin(hint)
    if origin is Annotated:
        kind, allowed = typing.get_args(hint)
        if hasattr(allowed, "read"):
            optional = type(None) in typing.get_args(kind)
            return None if value is None and optional else allowed.read(value, where, base)
        if isinstance(allowed, PathSetting):
            return allowed.locate(_text(value, where), base)
        number = _convert(value, kind, where, allows_infinity=allowed.allows_infinity)
        if number not in allowed:
            raise ConfigError(f"{where} must be {allowed}, it is {number!r}")
        return number
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _convert(value, without_none(hint), where, base)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{where} must be a mapping, it is {value!r}")
        return from_mapping(value, hint, where, base)
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where} must be a list, it is {value!r}")
        return tuple(_convert(v, typing.get_args(hint)[0], where, base) for v in value)
    if origin is dict:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise ConfigError(f"{where} must be a mapping from names to sections, it is {value!r}")
        inner = typing.get_args(hint)[1]
        return {str(name): _convert(v, inner, f"{where}.{name}", base) for name, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if hint is float and isinstance(value, str):
        value = _number(value, where)
    if hint is str:
        return str(_text(value, where))
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{where} must be of type {hint.__name__}, it is {value!r}")
    if hint is float and not (math.isfinite(value) or (allows_infinity and value == math.inf)):
        raise ConfigError(f"{where} must be a finite number, it is {value!r}")
    return value


def _text(value: Any, where: str) -> str:
    """A text as it is, which may be a FromHere; ConfigError for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ConfigError(f"{where} must be text, it is the number {value!r}; put it in quotes")
    if isinstance(value, bool):
        raise ConfigError(
            f"{where} must be text, it is {value!r}; put yes, no, on, off, true and false in quotes"
        )
    if not isinstance(value, str):
        raise ConfigError(f"{where} must be of type str, it is {value!r}")
    return value


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{where} must be a number, it is {text!r}") from None
