"""Dataclasses from TOML, with every fault of a file named at once and close matches for misspelt names."""

from __future__ import annotations

import difflib
import math
import tomllib
import typing
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

T = TypeVar("T")


class ConfigError(ValueError):
    """A configuration with faults, all of them in the message."""


def load(kind: type[T], path: Path, changes: Sequence[str] = ()) -> T:
    """Read a dataclass from a TOML file.

    Args:
        kind: Of the dataclass. Its fields' types are plain ones, lists and tables of those, other dataclasses, or
            `Annotated` with a rule that has ``faults(value)``; its own ``faults()`` are what is wrong between values.
        path: Of the file.
        changes: Values in place of the file's, each as ``table.key=value``.

    Raises:
        OSError: The file cannot be read.
        ConfigError: It has faults.
    """
    try:
        with open(path, "rb") as file:
            raw = tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} must be TOML. Got a syntax error: {error}.") from error
    faults: list[str] = []
    for change in changes:
        _change(raw, change, faults)
    config = build(kind, raw, "", faults)
    refuse(path, faults)
    assert config is not None  # else there were faults
    return config


def refuse(path: Path, faults: Sequence[str]) -> None:
    """Raise where a file has faults.

    Raises:
        ConfigError: It has; all are named.
    """
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ConfigError(f"{path} has {count}: " + " | ".join(faults))


def _change(raw: dict[str, Any], change: str, faults: list[str]) -> None:
    """Put a value ``key.of.tables=value`` into a study's table."""
    key, equals, text = change.partition("=")
    if not (key and equals):
        faults.append(f"a change must be KEY=VALUE, such as train.epochs=10. Got {change!r}.")
        return
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a name, which TOML would have in quotes
    for start in ("teacher.", "student.") if key.startswith("train.") else ("",):
        *tables, name = f"{start}{key}".split(".")
        table = raw
        for step in tables:
            table = table.setdefault(step, {})
            if not isinstance(table, dict):
                faults.append(f"{key} must be a value in a table. Got {step}, which is a value itself.")
                return
        table[name] = value


def build(kind: type[T], raw: dict[str, Any], where: str, faults: list[str]) -> T | None:
    """A dataclass from a table, or None where something is wrong; all that is wrong is added to ``faults``."""
    hints, entries = typing.get_type_hints(kind, include_extras=True), {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    before = len(faults)
    faults += [f"{where}{key} is not known.{suggest(key, entries)}" for key in raw if key not in entries]
    values = {}
    for name, entry in entries.items():
        if name in raw:
            values[name] = _value(hints[name], raw[name], f"{where}{name}", faults)
        elif entry.default is entry.default_factory:  # both are dataclasses.MISSING
            faults.append(f"{where}{name} is missing.")
    if len(faults) == before:
        config = kind(**values)
        faults += [where + fault for fault in getattr(config, "faults", list)()]
    return config if len(faults) == before else None


def _value(hint: Any, raw: Any, where: str, faults: list[str]) -> Any:
    if typing.get_origin(hint) is Annotated:
        plain, rule = typing.get_args(hint)
        before = len(faults)
        value = _value(plain, raw, where, faults)
        faults += [f"{where} {fault}" for fault in rule.faults(value)] if len(faults) == before else []
        return value
    if is_dataclass(hint) and isinstance(hint, type) and isinstance(raw, dict):
        return build(hint, raw, f"{where}.", faults)
    if typing.get_origin(hint) is dict and isinstance(raw, dict):
        item = typing.get_args(hint)[1]
        return {key: _value(item, value, f"{where}.{key}", faults) for key, value in raw.items()}
    if hint is Any:
        return raw
    if typing.get_origin(hint) is tuple and isinstance(raw, list):
        return tuple(_value(typing.get_args(hint)[0], item, f"{where}[{i}]", faults) for i, item in enumerate(raw))
    if hint is float and type(raw) in (int, float) and math.isfinite(raw):
        return float(raw)
    if type(raw) is hint and hint is not float:  # so that true is no number
        return raw
    faults.append(f"{where} must be {_words(hint)}. Got {raw!r}.")
    return None


def _words(hint: Any) -> str:
    if is_dataclass(hint) or typing.get_origin(hint) is dict:
        return "a table"
    if typing.get_origin(hint) is tuple:
        return {int: "a list of whole numbers", float: "a list of numbers", str: "a list of strings"}[
            typing.get_args(hint)[0]
        ]
    return {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}[hint]


def suggest(name: str, known: Iterable[str]) -> str:
    """A question with the closest of the known names, where one is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]}?" if close else ""
