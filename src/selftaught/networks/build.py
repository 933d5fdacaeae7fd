"""From a name, or any module, to a backbone for the user's data."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..contracts import Facts, OptionError, find, nearest
from .adapters import adapt, from_hugging_face, from_timm
from .backbone import Backbone
from .batchnorm import convert_batch_norm

ADAPTERS: dict[str, Callable[..., Backbone]] = {"timm": from_timm, "hf": from_hugging_face}


def build_backbone(spec: str | nn.Module, facts: Facts, *, example: Tensor | None = None, **options: Any) -> Backbone:
    """A backbone for items of `facts.shape`.

    spec: a registered name, 'timm:NAME', 'hf:NAME_OR_FOLDER', or any nn.Module (a copy of it, adapted: see `Adapted`). example: [B, ...],
    one batch as the network will see it, by which an adapted module's width is found; noise where None. options: the builder's.
    Raises OptionError for an unknown name or option, NotApplicable where the backbone does not suit the data.
    """
    if isinstance(spec, nn.Module):
        _refuse_unknown(options, [], type(spec).__name__)
        spec = _copied(spec)
        return convert_batch_norm(spec) if isinstance(spec, Backbone) else adapt(spec, facts, example)
    if not isinstance(spec, str):
        raise OptionError(f"A backbone is a name or a torch module, not a {type(spec).__name__}: use 'resnet18', say.")
    family, _, name = spec.partition(":")
    if name and family in ADAPTERS:
        _refuse_unknown(options, ["pretrained"], spec)
        return ADAPTERS[family](name, facts, example=example, **options)
    builder = find("backbone", spec)
    parameters = inspect.signature(builder).parameters.values()
    _refuse_unknown(options, [p.name for p in parameters if p.kind is p.KEYWORD_ONLY], spec)
    return builder(facts, **options)


def _copied(module: nn.Module) -> nn.Module:
    """The user's module stays as it was given: what is trained, timed or loaded is a copy of its own."""
    try:
        return copy.deepcopy(module)
    except Exception as error:  # a lock, an open file, a tensor that is not a leaf
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise OptionError(f"The backbone {type(module).__name__} cannot be copied ({type(error).__name__}: {first[:200]}), and every run "
                          "trains a copy: give a module that copy.deepcopy takes.") from error


def _refuse_unknown(options: dict[str, Any], known: list[str], spec: str) -> None:
    for option in options:
        if option not in known:
            raise nearest(option, known, what=f"option of the backbone {spec} named")
