"""Values that a person typed, turned into what a setting expects."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable
from typing import Any

from .errors import OptionError, nearest
from .keys import KEYS, LEAST, NONE


def parse(text: Any) -> Any:
    """`'0.2'` → 0.2, `'true'` → True, `'none'` → None, `'0.3,1'` → (0.3, 1); anything else stays as it is."""
    if not isinstance(text, str):
        return text
    word = text.strip()
    if word.lower() in ("true", "false", "none", "null"):
        return {"true": True, "false": False}.get(word.lower())
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return word


def fit_type(key: str, value: Any, default: Any) -> Any:
    """`value` as the type of `default`, or an OptionError that says what was expected: of LEAST, too, and of the keys that are never
    none. A default of None accepts anything."""
    value = parse(value)
    if value is None and key in KEYS and key not in NONE:
        raise OptionError(f"{key}=none does not fit: expected {_expected(key, default)}. Leave the key out for what is chosen without it.")
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
        if isinstance(value, (int, float)) and not isinstance(value, bool) and float(value).is_integer():
            return int(value)
    elif isinstance(default, float):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    elif isinstance(default, tuple):
        if isinstance(value, (list, tuple)) and (len(value) == len(default) or not default):
            return tuple(fit_type(key, v, d) for v, d in zip(value, default)) if default else tuple(value)
    elif isinstance(default, str):
        return str(value)
    else:
        return value  # schedules and other objects: a number stands for a constant one
    raise _misfit(key, value, default)


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
