"""Where a fit runs: device, processes and precision, through lightning-fabric."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..contracts import OptionError
from ..networks import convert_batch_norm

PRECISIONS = ("auto", "32-true", "bf16-mixed", "64-true")
"""Not bf16-true, in which a slow teacher does not move, nor 16-mixed, whose scaled gradients would be clipped as they are."""


def native_bfloat16(device: str = "cpu") -> bool:
    """Whether the processor computes bf16 natively, so that mixed precision pays."""
    if device.startswith("cuda"):
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if device != "cpu":
        return False
    probes = (getattr(torch.cpu, n, None) for n in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(probe() for probe in probes if probe is not None)


def resolve_device(device: str) -> str:
    """'auto' → 'cuda' where there is one, else 'cpu'. An absent device is an OptionError."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, colon, number = device.partition(":")
    if kind not in ("cpu", "cuda", "mps"):
        raise OptionError(f"There is no device '{device}'. Known: auto, cpu, cuda, cuda:N, mps.")
    seen = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if not seen or colon and (kind != "cuda" or not number.isdecimal() or int(number) >= seen):
        raise OptionError(f"device={device}, but torch sees no such device here; use device=cpu or device=auto.")
    return device


class Place:
    """Device, rank and wrapping of one process; `launch` makes it."""

    def __init__(self, fabric: Any, precision: str = "32-true"):
        self.fabric, self.precision = fabric, precision

    @property
    def rank(self) -> int:
        return self.fabric.global_rank

    @property
    def world(self) -> int:
        return self.fabric.world_size

    @property
    def device(self) -> torch.device:
        return self.fabric.device

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.fabric.global_rank == 0

    def seed(self, number: int) -> None:
        """What torch.manual_seed does, for the devices in use alone: for those never started it spends half a millisecond."""
        torch.default_generator.manual_seed(number)
        if self.device.type != "cpu":
            getattr(torch, self.device.type).manual_seed(number)

    def setup(self, method: nn.Module, *, channels_last: bool) -> nn.Module:
        """The method on its device, its BatchNorms ours, wrapped for the processes there are."""
        convert_batch_norm(method)
        if channels_last:
            method.to(memory_format=torch.channels_last)
        return self.fabric.setup_module(method)

    def forward(self, model: nn.Module, method: nn.Module, *inputs: Any) -> Any:
        """One forward of the wrapped method; alone and without changes of type, past the wrapper, whose walk through views and
        batch costs a small network a tenth of its step."""
        if self.world == 1 and self.precision in ("32-true", "bf16-mixed"):
            with self.fabric.autocast():
                return method(*inputs)
        return model(*inputs)

    def mean(self, value: Tensor) -> Tensor:
        return value if self.world == 1 else self.fabric.all_reduce(value, reduce_op="mean")

    def merged(self, seen: np.ndarray) -> np.ndarray:
        """Content hashes, 0 where there is none: each place as the one process that filled it has it, in all of them."""
        if self.world == 1:
            return seen
        mine = torch.from_numpy(seen.view(np.int64)).to(self.device)
        high, low = (self.fabric.all_reduce(mine.clone(), reduce_op=extreme) for extreme in ("max", "min"))
        return torch.where(high > 0, high, low).cpu().numpy().view(np.uint64)

    def any(self, number: int) -> int:
        """The largest of an integer over the processes."""
        if self.world == 1:
            return number
        return int(self.fabric.all_reduce(torch.tensor(float(number), device=self.device), reduce_op="max"))

    def check_divides(self, batch_size: int, accumulate: int, stream: str) -> None:
        if batch_size % (self.world * accumulate):
            raise OptionError(f"Stream '{stream}': batch_size={batch_size} cannot be split evenly over {self.world} processes × "
                              f"{accumulate} micro-batches; choose a multiple of {self.world * accumulate}.")


def launch(settings: Any) -> Place:
    """Starts the processes that `settings` asks for (or joins those torchrun started) and gives this one's place."""
    import logging
    import warnings

    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy

    device = resolve_device(settings.device)
    kind, _, number = device.partition(":")
    if settings.precision not in PRECISIONS:
        raise OptionError(f"There is no precision '{settings.precision}'. Known: {', '.join(PRECISIONS)}.")
    many = settings.devices > 1 or torch.distributed.is_torchelastic_launched()
    strategy = DDPStrategy(forward_sync_buffers=False) if many else "auto"
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fabric = Fabric(accelerator=kind, devices=[int(number)] if number else settings.devices, strategy=strategy,
                        precision=settings.precision)
        fabric.launch()
    return Place(fabric, settings.precision)
