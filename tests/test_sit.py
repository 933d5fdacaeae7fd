"""Pairs of views that are told apart, in every modality that has them; and SiT: its losses by naive loops, what it overwrites, learning."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from selftaught.contracts import NotApplicable, OptionError, Pair, TurnedPair
from selftaught.modalities import find_modality
from selftaught.testing import draft, source_of, train
from selftaught.views.series_transforms import turned as turned_series

NARROW = {"backbone.width": 16, "batch_size": 6, "method.width": 12}


def made(need, modality, rows=24):
    """(preprocessing, batch, the need's views)"""
    source = source_of(modality, rows)
    found = find_modality(modality)
    prepared = found.prepare(source)
    found.configure(source, prepared)
    plan = draft("diet", modality, source, batch_size=rows)
    batch = next(plan.stream(source).batches(0, 1, rank=0, world=1, accumulate=1))
    return batch, found.views(need, prepared)(batch, batch.draws(0, "train"))


@pytest.mark.parametrize("modality", ["image", "series", "audio", "text", "points", "video", "volume"])
def test_paired_views_are_turned_each_by_its_own_class(modality):
    _, views = made(TurnedPair(), modality)
    a, b = (view.applied["class"] for view in views)
    assert len(views) == 2 and not torch.equal(a, b) and set(torch.cat([a, b]).tolist()) == {0, 1, 2, 3}
    if modality == "volume":  # a flip and another would be a turn
        assert not any(view.applied[name].any() for view in views for name in ("reverse", "vertical_flip", "flip", "turn"))


def test_but_for_their_turns_they_are_those_of_a_pair():
    for modality, turn in (("image", lambda x, k: torch.rot90(x, int(k), (1, 2))),
                           ("series", lambda x, k: turned_series(x[None], None, k[None])[0])):
        views, plain = made(TurnedPair(), modality)[1], made(Pair(), modality)[1]
        for view, still in zip(views, plain, strict=True):
            assert all(torch.equal(x, turn(y, k)) for x, y, k in zip(view.x, still.x, view.applied["class"], strict=True))


def test_rows_have_no_turns_and_groups_of_points_cannot_be_overwritten():
    with pytest.raises(NotApplicable, match="neither order nor neighbours"):
        draft("sit", "table", source_of("table", 64))
    with pytest.raises(NotApplicable, match="no patches of a grid"):
        draft("sit", "points", source_of("points", 64))
    off = {f"method.{task}": False for task in ("reconstruction", "rotation", "contrast")}
    with pytest.raises(OptionError, match="without a task"):
        draft("sit", "image", source_of("image", 64), **off)


def one_step(modality="image", **changes):
    source = source_of(modality, 24)
    plan = draft("sit", modality, source, **{**NARROW, **changes})
    stream = plan.stream(source)
    batch = next(stream.batches(0, 1, rank=0, world=1, accumulate=1))
    return plan.build_method().double(), [v.with_(x=v.x.double()) for v in stream.views(batch, batch.draws(0, "train"))], batch


def test_the_three_losses_are_their_formulas():
    method, views, batch = one_step(**{"method.masked": (0.3, 0.3)})
    named = method(views, batch).named
    reconstruction, rotation, projected = [], [], ([], [])
    for k, view in enumerate(views):
        seen = method.overwritten(view, batch.draws(0, "sit").split(k))
        for i in range(6):
            features = method.student.backbone(seen.x[i : i + 1])
            restored = method.heads["reconstruction"](features.tokens)[0]
            reconstruction.append((restored - method.signal(view.x[i : i + 1])[0]).abs().mean())
            rotation.append(F.cross_entropy(method.heads["rotation"](features.pooled), view.applied["class"][i : i + 1]))
            projected[k].append(method.heads["contrast"](features.pooled)[0])
    z = F.normalize(torch.stack([*projected[0], *projected[1]]), dim=1)
    contrast = [-torch.log((z[i] @ z[(i + 6) % 12] / 0.5).exp() / sum((z[i] @ z[j] / 0.5).exp() for j in range(12) if j != i))
                for i in range(12)]
    for task, naive in (("reconstruction", reconstruction), ("rotation", rotation), ("contrast", contrast)):
        torch.testing.assert_close(named[task], torch.stack(naive).mean().detach())
    weighted = sum(a * named[task] / np.e + 0.5 for task, a in (("reconstruction", 0.5), ("rotation", 1.0), ("contrast", 1.0)))
    torch.testing.assert_close(method(views, batch).total.detach(), weighted)


def test_noise_and_the_neighbour_are_where_the_masks_are_and_nowhere_else():
    method, (view, _), batch = one_step(**{"method.masked": (0.3, 0.3)})
    found = method.overwritten(view, batch.draws(0, "sit").split(0)).x
    noisy, foreign = (mask.view(6, 1, 3, 3).repeat_interleave(4, 2).repeat_interleave(4, 3).expand_as(found) for mask in view.masks)
    neighbour = view.x[[1, 0, 3, 2, 5, 4]]
    assert torch.equal(found[~noisy & ~foreign], view.x[~noisy & ~foreign]) and torch.equal(found[foreign], neighbour[foreign])
    only = noisy & ~foreign
    assert abs(float(found[only].mean())) < 0.3 and 0.8 < float(found[only].std()) < 1.2
    text, (view, _), batch = one_step("text", **{"method.masked": (0.3, 0.3)})
    hidden = view.masks.any(0)
    assert torch.equal(text.overwritten(view.with_(x=view.x.long()), batch.draws(0, "sit")).x,
                       torch.where(hidden, view.x[[1, 0, 3, 2, 5, 4]], view.x).long())


def test_it_learns_to_restore_and_to_pair_and_not_from_other_items():
    """After 50 steps both losses on items as they are lie below those of the same run on others' views and targets."""
    source = source_of("image", 256)
    plan = draft("sit", "image", source, steps=50, lr=6e-3, **{"method.width": 32})
    batch = next(plan.stream(source).batches(0, 1, rank=0, world=1, accumulate=1))
    views = plan.stream(source).views(batch, batch.draws(1, "test"))
    losses = []
    for broken in (False, True):
        method, _ = train(plan, source, broken=broken, stop_on_collapse=False)
        method.__dict__.pop("targets", None)  # as they are again
        with torch.no_grad():
            losses.append(method(views, batch).named)
    assert all(losses[0][task] < losses[1][task] - 0.05 for task in ("reconstruction", "contrast")), losses
