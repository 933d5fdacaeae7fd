"""Any torch module as a backbone: its width and its kind of output are found by showing it one batch of the user's shape."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..contracts import Facts, Features, OptionError
from .backbone import Backbone, average, mask_steps, shorten, valid_steps
from .batchnorm import convert_batch_norm
from .transformer import hide, pool

GIVES = "it should give [B, D], a map [B, D, ...], tokens [B, N, D], or an object with last_hidden_state or pooler_output"


class Adapted(Backbone):
    """A user's module as a backbone.

    Understood outputs: [B, D]; maps [B, D, H, W] (averaged); tokens [B, N, D] (averaged); series maps [B, D, T], told from
    tokens by showing a shorter series; mappings or objects with `last_hidden_state` and perhaps `pooler_output` (Hugging Face).
    `lengths` reaches the module where its forward has such a parameter, and of token ids `attention_mask`. Its BatchNorms become ours.
    """

    def __init__(self, module: nn.Module, example: Tensor, *, table: bool = False):
        super().__init__()
        self.module, self.table = module, table
        parameters = inspect.signature(module.forward).parameters
        self.takes_lengths, self.takes_mask = "lengths" in parameters, "attention_mask" in parameters
        self.channels_first = False
        features, self.channels_first = self._look(example)
        self.width = features.pooled.shape[1]
        self.count = None if features.tokens is None else features.tokens.shape[1]
        if self.count is not None:
            self.abilities = frozenset({"tokens"})
        self.module = convert_batch_norm(module)

    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        """(number of tokens,) of the example the module was adapted with."""
        if self.count is None:
            raise OptionError(f"The backbone {type(self.module).__name__} gives no tokens, so it has no grid: use vit_tiny.")
        return (self.count,)

    def forward(self, x: Tensor, *, lengths: Tensor | None = None, keep: Tensor | None = None,
                layers: Sequence[int] = ()) -> Features:
        self.refuse(keep, layers)
        if self.table:
            x = torch.nan_to_num(x)
        x = mask_steps(x, lengths)
        said = {} if lengths is None else {"lengths": lengths} if self.takes_lengths else {}
        if self.takes_mask and lengths is not None and not x.is_floating_point():
            said["attention_mask"] = valid_steps(lengths, x.shape[-1]).long()
        output = self.module(x, **said)
        return self._features(output, x, lengths)

    def _features(self, output: Any, x: Tensor, lengths: Tensor | None) -> Features:
        hidden, pooled = _parts(output)
        if pooled is not None:
            pooled = pooled.flatten(1)
        if hidden is None and pooled is not None:
            return Features(pooled)
        if not isinstance(hidden, Tensor) or hidden.ndim < 2 or not hidden.is_floating_point():
            raise OptionError(f"The backbone {type(self.module).__name__} gave {_describe(output)} for a batch of shape "
                              f"{tuple(x.shape)}: {GIVES}.")
        if hidden.ndim == 2:
            return Features(hidden if pooled is None else pooled)
        if hidden.ndim > 3:
            return Features(average(hidden, None) if pooled is None else pooled)
        if self.channels_first:
            hidden = hidden.transpose(1, 2)
        valid = None
        if x.ndim > 3:
            lengths = None  # which tokens of a map lie within an item cannot be told
        if lengths is not None:  # the module's stride is read off the number of its tokens
            stride = -(-x.shape[-1] // hidden.shape[1])
            lengths = shorten(lengths, stride)
            valid = valid_steps(lengths, hidden.shape[1])
            hidden = hide(hidden, valid)
        return Features(pool(hidden[:, 0], hidden, valid, "mean") if pooled is None else pooled, hidden, None, lengths)

    @torch.no_grad()
    def _look(self, example: Tensor) -> tuple[Features, bool]:
        """Features of the example in evaluation mode (all modes restored), and whether series come out as [B, D, T]."""
        modes = [(part, part.training) for part in self.module.modules()]
        self.module.eval()
        try:
            features, turned = self(example), False
            if example.ndim == 3 and features.tokens is not None and example.shape[2] >= 16:
                turned = self._turned(example, features.tokens)
            if turned:
                self.channels_first = True
                features = self(example)
            return features, turned
        except OptionError:
            raise
        except Exception as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else ""
            raise OptionError(f"The backbone {type(self.module).__name__} cannot take a batch of shape {tuple(example.shape)}, "
                              f"the shape of the data ({type(error).__name__}: {first[:200]}): {GIVES}.") from error
        finally:
            for part, mode in modes:
                part.training = mode

    def _turned(self, example: Tensor, tokens: Tensor) -> bool:
        try:
            shorter = self(example[..., : example.shape[2] // 2].contiguous()).tokens
        except Exception:  # a module of one length only: its output is taken for tokens
            return False
        return shorter.shape[2] != tokens.shape[2] and shorter.shape[1] == tokens.shape[1]


def _parts(output: Any) -> tuple[Any, Tensor | None]:
    """(hidden, pooled) of what a module gave."""
    if isinstance(output, Tensor):
        return output, None
    if isinstance(output, Features):
        return output.tokens, output.pooled
    look = output.get if isinstance(output, Mapping) else lambda key: getattr(output, key, None)
    return look("last_hidden_state"), look("pooler_output")


def _describe(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)} and type {output.dtype}"
    if isinstance(output, Mapping):
        return f"a mapping with the keys {', '.join(map(str, output)) or 'none'}"
    if isinstance(output, (tuple, list)):
        return f"a {type(output).__name__} of {len(output)}"
    return f"a {type(output).__name__}"


def adapt(module: nn.Module, facts: Facts, example: Tensor | None = None) -> Adapted:
    """The module as a backbone; without an example it is shown two items of noise of `facts.shape`."""
    if example is None:
        example = torch.randn(2, *facts.shape, generator=torch.Generator().manual_seed(0))
    own = next(iter([*module.parameters(), *module.buffers()]), example)
    if isinstance(own, nn.parameter.UninitializedTensorMixin):
        own = example
    dtype = own.dtype if own.is_floating_point() else example.dtype
    return Adapted(module, example.to(own.device, dtype if example.is_floating_point() else example.dtype), table=facts.modality == "table")


def from_timm(name: str, facts: Facts, *, pretrained: bool = False, example: Tensor | None = None) -> Adapted:
    """timm's model of that name without its classifier; `pretrained` loads its weights."""
    try:
        import timm

        module = timm.create_model(name, pretrained=pretrained, num_classes=0, in_chans=facts.shape[0])
    except (ImportError, RuntimeError, OSError, ValueError) as error:
        raise _unavailable(f"timm:{name}", "timm", error) from error
    return adapt(module, facts, example)


def from_hugging_face(name: str, facts: Facts, *, pretrained: bool = True, example: Tensor | None = None) -> Adapted:
    """A transformers model by name or local folder; weights from safetensors only, or fresh with `pretrained=False`."""
    try:
        from transformers import AutoConfig, AutoModel

        if pretrained:
            module = AutoModel.from_pretrained(name, use_safetensors=True)
        else:
            module = AutoModel.from_config(AutoConfig.from_pretrained(name))
    except (ImportError, RuntimeError, OSError, ValueError) as error:
        raise _unavailable(f"hf:{name}", "transformers", error) from error
    return adapt(module, facts, example)


def _unavailable(spec: str, package: str, error: Exception) -> OptionError:
    if isinstance(error, ImportError):
        return OptionError(f"The backbone '{spec}' needs the package {package}, which cannot be imported here ({error}): "
                           "install it, or choose a built-in backbone such as resnet18.")
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return OptionError(f"The backbone '{spec}' could not be loaded by {package} ({reason[:200]}): check the name or the "
                       "folder, and that its weights are safetensors.")
