"""The one registry: (kind, name) → thing. Methods, backbones, modalities and recipes are found here by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from .errors import nearest

REGISTRY: dict[tuple[str, str], Any] = {}
T = TypeVar("T")


def register(name: str, *, kind: str = "method") -> Callable[[T], T]:
    """Decorator: enters a class or function under `name`; a second entry of the same name is an error, a reload is not."""

    def enter(thing: T) -> T:
        old = REGISTRY.get((kind, name))
        if old is not None and getattr(old, "__qualname__", None) != getattr(thing, "__qualname__", None):
            raise ValueError(f"{kind} '{name}' is registered twice: {old!r} and {thing!r}")
        REGISTRY[kind, name] = thing
        if kind == "method":
            thing.name = name  # type: ignore[attr-defined]
        return thing

    return enter


def names(kind: str) -> list[str]:
    return sorted(n for k, n in REGISTRY if k == kind)


def find(kind: str, name: str) -> Any:
    """The thing of that kind and name; an unknown name is an OptionError that names the nearest known one."""
    try:
        return REGISTRY[kind, name]
    except KeyError:
        raise nearest(name, names(kind), what=kind) from None
