"""Video: canvases of frames → tensors; the views of images, shared over a window of frames, anywhere in time; a 3-D backbone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from ..contracts import Clean, Facts, Measured, MultiCrop, Need, OptionError, Pair, Patches, Single, Source, Transformed, register
from ..networks.vit import default_patch
from ..views.flow import MeasuredClips
from ..views.grid3d import ClipViews, GridSpec, lifted
from .base import Preprocessing, ViewMaker, innermost
from .grid3d import GridModality, default_side, moments, unavailable
from .image import view_specs

FRAMES, STRIDE, CANVAS = 16, 4, 4  # the usual clip; windows of a clip that travel to the device
_MOST = 112  # pixels a side unless asked for more


class VideoModality(GridModality):
    """Items are uint8 [C, F, S, S], every stride-th frame of the middle of a clip, with how many there are and its height and width. The
    network sees `facts.shape` = (C, T, resolution, resolution): T of these frames, in training from a random one on."""

    name = "video"
    opens_with = {"modality": "video"}  # folders of frames and arrays do not say that they are clips
    inputs = {"frames": 0, "stride": 0}
    """frames: that the network sees (0: 16, fewer where clips are short). stride: every how many-th of the file's (0: as many as fit
    twice, at most 4)."""
    maker = ClipViews
    idle = ("size", "turn", "cutout_size")

    def prepare(self, source: Source, *, resolution: int | None = None, sample: int = 64, **options: Any) -> Preprocessing:
        """Settles resolution, frames and stride, then reads evenly spaced clips for mean and deviation. options: `inputs`."""
        chosen = self.settings(options)
        there, side = innermost(source).frames, max(source.facts.shape[-2:])
        usual, longest = int(np.median(there)), int(there.max())
        frames = chosen["frames"] or max(2, min(FRAMES, usual) // 2 * 2)
        stride = chosen["stride"] or max(1, min(STRIDE, usual // (2 * frames)))
        if frames < 2 or stride < 1 or resolution is not None and resolution < 4:
            raise OptionError(f"Video needs 2 frames, a stride of 1 and 4 pixels at least, not frames={frames}, stride={stride}, "
                              f"resolution={resolution}.")
        if frames > longest or (frames - 1) * stride >= 2 * longest:
            raise OptionError(f"{frames} frames, every {stride}{_ending(stride)}, reach far beyond the longest clip, which has {longest}: "
                              "give fewer as input.frames or input.stride.")
        resolution = int(resolution or default_side(side, _MOST, 16))
        canvas = resolution if side <= resolution else min(side, round(resolution * 8 / 7))
        source.set_canvas((shown := max(frames, min(-(-longest // stride), CANVAS * frames)), stride, canvas))
        mean, std = moments(source, sample, held)
        palette = {1: "single", 3: "photo"}.get(len(mean), "multi")
        reasons = [f"{frames} frames, every {stride}{_ending(stride)}: clips have {int(there.min())} to {longest} frames",
                   f"resolution {resolution}: the clips' sides reach {side} pixels"]
        statistics = {"mean": mean, "std": std, "low": 0.0, "high": 255.0, "clamp": True, "canvas": canvas, "frames": shown,
                      "stride": stride, "window": frames, "palette": palette, "flip": 0.5 if palette == "photo" else 0.0,
                      "reasons": reasons}
        if (white := getattr(innermost(source), "white", None)) is not None:  # of 16-bit frames
            statistics["white"] = white
        return Preprocessing(self.name, source.facts.with_(shape=(len(mean), frames, resolution, resolution)), statistics)

    def configure(self, source: Source, preprocessing: Preprocessing) -> None:
        """Has the source give as many frames, at the stride and on the canvas of training, 16-bit ones as bright."""
        source.set_canvas(tuple(preprocessing.statistics[name] for name in ("frames", "stride", "canvas")))
        if "white" in preprocessing.statistics and hasattr(base := innermost(source), "set_white"):
            base.set_white(preprocessing.statistics["white"])

    def views(self, need: Need, preprocessing: Preprocessing, **options: Any) -> ViewMaker:
        if not isinstance(need, Measured):
            return super().views(need, preprocessing, **options)
        weak = Single(strength="weak", fields=need.fields)
        return MeasuredClips(super().views(weak, preprocessing, **options), need)

    def specs(self, need: Need, preprocessing: Preprocessing) -> list[GridSpec]:
        """Those of images, of a window of frames: in the middle (Clean), at a random place (weak: Single, Transformed, Patches), or also
        up to twice as fast (Pair, MultiCrop, DIET), of local views half as many. A Transformed turn is backward in time, by half in
        space, both. Patches: blocks of space and time."""
        channels, window = preprocessing.facts.shape[:2]
        if not isinstance(need, (Clean, Single, Pair, MultiCrop, Transformed, Patches)):
            raise unavailable(self.name, need, "no view of that kind is defined for a clip")
        if isinstance(need, Transformed) and need.kind == "channels" and channels != 3:
            raise unavailable(self.name, need, f"its frames have {channels} channel{'s' if channels != 1 else ''}")
        fast = {"stride": (1, 2)} if isinstance(need, (Pair, MultiCrop)) or isinstance(need, Single) and need.strength == "strong" else {}
        found = [lifted(spec, window // 2 if spec.role == "local" else window, **fast) for spec in view_specs(need, preprocessing)]
        if isinstance(need, Patches):
            depth = max(2, round(window / need.side * (1 - need.jitter)))
            found[-1] = replace(found[-1], shape=(depth, *found[-1].shape[1:]))
        return found

    def backbone(self, facts: Facts, spec: str | nn.Module | None = None, **options: Any) -> nn.Module:
        """Transformers take cubes of 2 frames (VideoMAE's), as many pixels a side as for images, unless `patch` is given."""
        if isinstance(spec, str) and spec.startswith("vit_") and options.get("patch") is None:
            options["patch"] = (2, *[default_patch(facts.shape[2:])] * 2)
        return super().backbone(facts, spec, **options)

    def picture(self, item: dict[str, np.ndarray], preprocessing: Preprocessing, *, side: int = 96) -> np.ndarray:
        """Four frames, first to last, in two rows, each in the clip's own aspect."""
        from PIL import Image

        x = held(item)
        chosen = x[:, np.linspace(0, x.shape[1] - 1, 4).round().astype(np.int64)]
        chosen = chosen[:3] if len(x) >= 3 else chosen.mean(0, keepdims=True).astype(np.uint8).repeat(3, 0)  # [3, 4, S, S]
        height, width = (int(v) for v in item["size"][1:])
        shape = tuple(max(1, side * n // (2 * max(height, width))) for n in (width, height))
        frames = [np.asarray(Image.fromarray(frame.transpose(1, 2, 0)).resize(shape)) for frame in chosen.swapaxes(0, 1)]
        return np.concatenate([np.concatenate(frames[:2], 1), np.concatenate(frames[2:], 1)])


def held(item: dict[str, np.ndarray]) -> np.ndarray:
    """[C, T, S, S]: the frames that are there."""
    return item["x"][:, : int(item["size"][0])]


def _ending(number: int) -> str:
    return {1: "st", 2: "nd", 3: "rd"}.get(number, "th")


register("video", kind="modality")(VideoModality())
