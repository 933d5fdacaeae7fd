"""Values that a person typed, turned into what a setting expects."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any

from .errors import OptionError, nearest
from .keys import GROUPS, KEYS, LEAST, NONE


def parse(text: Any) -> Any:
    """`'0.2'` → 0.2, `'true'` → True, `'none'` → None, `'0.3,1'` → (0.3, 1); anything else stays as it is."""
    if not isinstance(text, str):
        return text
    word = text.strip()
    if word.lower() in ("true", "false", "none", "null"):
        return {"true": True, "false": False}.get(word.lower())
    try:
        return ast.literal_eval(word)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # as documented of literal_eval
        return word


def fit_type(key: str, value: Any, default: Any) -> Any:
    """`value` as the type of `default`, or an OptionError that says what was expected: of LEAST, too, and of the keys that are never
    none. A default of None accepts anything."""
    value = parse(value)
    if value is None and key in KEYS and key not in NONE:
        raise OptionError(f"{key}=none does not fit: expected {_expected(key, default)}. Leave the key out to have it chosen.")
    if default is None or value is None:
        return value
    typed = _typed(key, value, default)
    if key in LEAST and not LEAST[key] <= typed < math.inf:
        raise _misfit(key, value, default)
    return typed


def _typed(key: str, value: Any, default: Any) -> Any:
    if isinstance(default, bool):
        if isinstance(value, (bool, int)) and value in (0, 1):
            return bool(value)
        if isinstance(value, str) and value.lower() in ("on", "off", "yes", "no"):
            return value.lower() in ("on", "yes")
    elif isinstance(default, int):
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value % 1 == 0:
            return int(value)
    elif isinstance(default, float):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    elif isinstance(default, tuple):
        if isinstance(value, (list, tuple)) and (len(value) == len(default) or not default):
            return tuple(_typed(key, parse(v), d) for v, d in zip(value, default)) if default else tuple(value)
    elif isinstance(default, str):
        return str(value)
    else:
        return value  # schedules and other objects: a number stands for a constant one
    raise _misfit(key, value, default)


def fit_option(key: str, value: Any, default: Any) -> Any:
    """`fit_type` for an option of a method or of an input: none only where its default is, and no whole number below 0."""
    typed = fit_type(key, value, default)
    if typed is None and default is not None:
        raise OptionError(f"{key}=none does not fit: expected {_expected(key, default)}.")
    if type(typed) is int and typed < 0:
        raise OptionError(f"{key}={value} does not fit: expected a whole number of at least 0.")
    return typed


def fit_keywords(group: str, builder: Callable, options: dict[str, Any]) -> dict[str, Any]:
    """`options` as the types of the keywords of `builder`, whose whole numbers are at least 1; a name that it lacks is its to refuse."""
    known = {p.name: p for p in inspect.signature(builder).parameters.values() if p.kind is p.KEYWORD_ONLY}
    return {name: _keyword(f"{group}.{name}", parse(value), known[name]) if name in known else value for name, value in options.items()}


def _keyword(key: str, value: Any, known: inspect.Parameter) -> Any:
    default, kinds = known.default, str(known.annotation)
    if value is None and default is None:
        return None
    if isinstance(value, (list, tuple)) and value and (isinstance(default, tuple) or "Sequence" in kinds):
        return tuple(_positive(key, v) for v in value)  # of any length, unlike the tuples of `fit_type`
    if isinstance(default, tuple):
        raise OptionError(f"{key}={value!r} does not fit: expected whole numbers separated by commas, such as {str(default)[1:-1]}.")
    if value is None:
        raise _misfit(key, value, default)
    if isinstance(default, (bool, float)):
        return _typed(key, value, default)
    return _positive(key, value) if isinstance(default, int) or kinds.startswith("int") else value


def _positive(key: str, value: Any) -> int:
    if (value := _typed(key, value, 1)) < 1:
        raise OptionError(f"{key}={value} does not fit: expected a whole number of at least 1.")
    return value


def _misfit(key: str, value: Any, default: Any) -> OptionError:
    return OptionError(f"{key}={value!r} does not fit: expected {_expected(key, default)}.")


def _expected(key: str, default: Any) -> str:
    return f"{_kind(default)} of at least {LEAST[key]:g}" if key in LEAST else f"{_kind(default)}, such as {default!r}"


def _kind(default: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    return names.get(type(default), f"{len(default)} numbers separated by commas" if isinstance(default, tuple) else "a value")


def split_dotted(overrides: dict[str, Any], plain: Iterable[str], groups: Iterable[str]) -> tuple[dict[str, Any], dict[str, dict]]:
    """`{'lr': 1, 'method.width': 2}` → ({'lr': 1}, {'method': {'width': 2}}); an unknown key is an error naming the nearest."""
    plain, groups = list(plain), list(groups)
    flat: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {g: {} for g in groups}
    for key, value in overrides.items():
        group, dot, rest = key.partition(".")
        if dot and group in nested:
            nested[group][rest] = value
        elif key in plain:
            flat[key] = value
        else:
            raise nearest(key, [*plain, *(f"{g}.…" for g in groups)], what="key")
    return flat, nested


def read_settings(pairs: Iterable[str], *, options: Iterable[str] = ()) -> dict[str, str]:
    """`['epochs=5', 'method.temperature=0.2']` → dict. options: of the command (`--out`), which are no settings. A key that does not
    exist is an OptionError."""
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise OptionError(f"'{pair}' is not a setting; write key=value, such as epochs=20.")
        if key not in KEYS and f"--{key}" in options:
            raise OptionError(f"'{pair}' is not a setting: {key} is an option of this command, --{key}.")
        split_dotted({key: value}, KEYS, GROUPS)
        found[key] = value
    return found


def read_budgets(option: str, text: str) -> list[float | int]:
    """`'0.01,1,100'` → [0.01, 1.0, 100]: fractions up to 1, counts above."""
    try:
        return [float(b) if float(b) <= 1 else int(b) for b in text.split(",")]
    except ValueError:
        raise OptionError(f"{option} {text!r} does not fit: write fractions or counts, such as 0.01,0.1,1 or 50,500.") from None


def read_integers(option: str, text: str) -> list[int]:
    """`'0,255'` → [0, 255]; nothing gives an empty list."""
    try:
        return [int(v) for v in text.split(",") if v.strip()]
    except ValueError:
        raise OptionError(f"{option} {text!r} does not fit: write whole numbers, such as 0,255.") from None
