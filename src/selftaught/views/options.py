"""Overriding single settings of a frozen specification of views by name, from Python values or from words on a command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from ..contracts import OptionError, nearest

Spec = TypeVar("Spec")
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


def with_options(spec: Spec, options: Mapping[str, Any], *, what: str) -> Spec:
    """`spec` (a dataclass) with the named fields replaced; a word is read as the field's kind ('0.2', '0.3,1', 'off').

    A single number for a range sets both of its ends. Raises OptionError for an unknown name (naming the nearest) and for a
    value of the wrong kind; what the specification itself refuses (a probability of 2) is its own OptionError.
    """
    known = [f.name for f in fields(spec)]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise nearest(unknown[0], known, what=f"{what} option")
    changes = {name: _read(value, getattr(spec, name), name, what) for name, value in options.items()}
    return replace(spec, **changes) if changes else spec


def _read(value: Any, default: Any, name: str, what: str) -> Any:
    """`value` as the kind of thing that `default` is."""
    try:
        if isinstance(default, bool):
            word = str(value).strip().lower()
            if word not in _TRUE | _FALSE:
                raise ValueError("expected on or off")
            return word in _TRUE
        if isinstance(default, tuple):
            parts = value.strip("()[] ").split(",") if isinstance(value, str) else value
            parts = list(parts) if isinstance(parts, (list, tuple)) else [parts]
            parts = parts * len(default) if len(parts) == 1 else parts
            if len(parts) != len(default):
                raise ValueError(f"expected {len(default)} numbers")
            return tuple(type(d)(p) for d, p in zip(default, parts))
        if isinstance(default, int) and float(value) != int(float(value)):
            raise ValueError("expected a whole number")
        return int(float(value)) if isinstance(default, int) else type(default)(value)
    except (TypeError, ValueError) as wrong:
        raise OptionError(f"{what} option '{name}' cannot be {value!r} ({wrong}); its default is {default!r}.") from None
