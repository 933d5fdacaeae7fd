"""Overriding single settings of a frozen specification of views by name, from Python values or from words on a command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from ..contracts import OptionError, fit_type, nearest, parse

Spec = TypeVar("Spec")


def with_options(spec: Spec, options: Mapping[str, Any], *, what: str) -> Spec:
    """`spec` (a dataclass) with the named fields replaced; a word is read as the field's kind ('0.2', '0.3,1', 'off').

    A single number for a range sets both of its ends. Raises OptionError for an unknown name (naming the nearest) and for a
    value of the wrong kind; what the specification itself refuses (a probability of 2) is its own OptionError.
    """
    known = [f.name for f in fields(spec)]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise nearest(unknown[0], known, what=f"{what} option")
    changes = {name: _read(f"{what} option {name}", value, getattr(spec, name)) for name, value in options.items()}
    return replace(spec, **changes) if changes else spec


def _read(key: str, value: Any, default: Any) -> Any:
    value = parse(value)
    if value is None:
        raise OptionError(f"{key} cannot be nothing; its default is {default!r}.")
    if isinstance(default, tuple) and not isinstance(value, (tuple, list, str)):
        value = (value,) * len(default)
    return fit_type(key, value, default)
