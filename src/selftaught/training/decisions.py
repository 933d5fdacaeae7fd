"""What run.yaml says of a run: decisions as JSON and back, and whether a resumed run is the one that began."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from torch import nn

from ..contracts import FREE, Group, OptionError, Schedule, fit_type, parse


def as_json(value: Any) -> Any:
    """A value as JSON can hold it: schedules and groups by name and fields, classes and modules by name, any other object as its text."""
    if isinstance(value, (Schedule, Group)) and is_dataclass(value):
        return {"is": type(value).__name__, **{f.name: as_json(getattr(value, f.name)) for f in fields(value)}}
    if isinstance(value, dict):
        return {str(k): as_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(v) for v in value]
    if isinstance(value, type):  # a method's own name: a subclass that was never registered is another method
        return vars(value).get("name") or value.__name__
    if isinstance(value, nn.Module):
        return type(value).__name__
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)


def from_json(value: Any) -> Any:
    """What `as_json` wrote, schedules and groups as objects again (tuples stay lists)."""
    if isinstance(value, dict) and "is" in value:
        known = {c.__name__: c for c in (Group, *Schedule.__subclasses__())}
        return known[value["is"]](**{k: from_json(v) for k, v in value.items() if k != "is"})
    return {k: from_json(v) for k, v in value.items()} if isinstance(value, dict) else value


def recorded(decisions: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The overrides that repeat a run from the decisions in its run.yaml: all but the plan's Nones, and the recipe's own options,
    which are the method's again."""
    return {key: from_json(d["value"]) for key, d in decisions.items()
            if (d["value"] is not None or d["by"] == "user") and not (d["by"] == "recipe" and "." in key)}


def refuse_changes(run: Any, written: dict[str, Any], overrides: dict[str, Any], fingerprint: str) -> None:
    """OptionError unless `run` (a folder) began with these data and with these values of all keys that bear on what is learned: as
    they were asked for then, or decided."""
    if written["fingerprint"] != fingerprint:
        raise OptionError(f"The data have changed since {run} began (fingerprint {written['fingerprint']}, now {fingerprint}); start a "
                          "new run with another --out, or restore the data.")
    asked = written.get("asked", {})
    for key, value in overrides.items():
        now, decision = as_json(parse(value)), written["decisions"].get(key)
        decided = None if decision is None else decision["value"]
        known = key in asked or decision is not None
        if key in FREE or known and (asked.get(key, decided) == now or as_json(fit_type(key, now, decided)) == decided):
            continue
        began = f"with {key}={from_json(asked.get(key, decided))}" if known else f"without {key}"
        raise OptionError(f"{run} began {began}; resuming with {key}={from_json(now)} would be another run. "
                          "Leave the key out, or start anew with another --out.")
