"""ATST: what is mixed in, exact identities with BYOL and with a naive loop, padding, and that frames are learned from the other view."""

import pytest
import torch

from selftaught.contracts import Batch, Clock, Draws, Facts, NotApplicable, View
from selftaught.methods import BYOL, ATSTClip, ATSTFrame
from selftaught.networks import build_backbone
from selftaught.views.masks import Masked

SMALL = {"width": 16, "depth": 1, "heads": 2, "pool": "mean"}
HEADS = {"width": 16, "hidden": 32}


def built(method, **options):
    torch.manual_seed(0)
    facts = Facts("series", 256, (2, 32))
    return method.build(build_backbone("vit_tiny", facts, patch=4, **SMALL), facts, memory=8, **HEADS, **options)


def made(method, step, items=16, lengths=None):
    """(views, batch): one of two signs of a pattern, of which half of the tokens are hidden."""
    index = torch.arange(items) + items * step
    draws = Draws.for_items(0, "train", torch.zeros_like(index), index)
    pattern = torch.randn(2, 32, generator=torch.Generator().manual_seed(1))
    x = torch.where(draws.happens("sign", 0.5, 1, 1), 1.0, -1.0) * pattern + 0.2 * draws.normal("noise", 2, 32)
    batch = Batch({"x": x}, index, index, torch.zeros_like(index))
    mask = ATSTFrame.needed({"masked": 0.5, "size": 2}).mask
    return Masked(lambda b, d: [View(b.x, lengths)], mask, method.student.backbone.grid)(batch, draws), batch


def test_an_earlier_item_is_mixed_in_up_to_a_part():
    mixer = built(ATSTFrame, mixed=0.4).mixer
    draws, first, second = Draws(torch.arange(8)), View(torch.randn(8, 2, 32)), View(torch.randn(8, 2, 32))
    part = draws.uniform("part", high=0.4)[:, None, None]
    assert torch.allclose(mixer(first, draws).x, (1 - part) * first.x)  # nothing was seen yet
    mixer.memory.commit(Clock())
    mixed = mixer(second, draws).x
    other = (mixed - (1 - part) * second.x) / part
    assert all(min(float((o - f).abs().max()) for f in first.x) < 1e-3 for o in other)
    short = mixer(View(second.x[..., :20]), draws)
    assert short.x.shape == (8, 2, 20) and torch.allclose(short.x, mixed[..., :20])


def test_without_mixing_the_clip_model_is_byol():
    clip, byol = built(ATSTClip, mixed=0.0, momentum=0.9).double(), BYOL(build_backbone("vit_tiny", Facts("series", 256, (2, 32)), patch=4,
                                                                                        **SMALL), momentum=0.9, **HEADS).double()
    byol.load_state_dict({k: v for k, v in clip.state_dict().items() if not k.startswith("mixer")})
    views, (_, batch) = [View(torch.randn(6, 2, 32).double()) for _ in range(2)], made(clip, 0, 6)
    assert torch.allclose(2 * clip(views, batch), byol(views, batch), atol=1e-12)


def test_frames_are_predicted_as_a_naive_loop_says_and_padding_does_not_count():
    method = built(ATSTFrame, mixed=0.0).double()
    lengths = torch.tensor([32, 20] * 4)
    (view,), batch = made(method, 0, 8, lengths)
    view = view.with_(x=view.x.double())
    predicted, targets, total = method.predictions(view), method.targets(view), 0.0
    for b in range(8):
        apart = [2 - 2 * torch.cosine_similarity(p, t, dim=0)
                 for p, t, place in zip(predicted[b], targets[b], view.applied["hidden"][0, b]) if 4 * place < lengths[b]]
        total = total + sum(apart) / len(apart) / 8
    assert torch.allclose(method([view], batch), total, atol=1e-12)


def test_hidden_frames_are_learned_from_the_other_view_and_other_items_frames_cannot_be():
    losses = {}
    for broken in (False, True):
        method = built(ATSTFrame, momentum=0.99)
        if broken:
            own = method.targets
            method.targets = lambda view, own=own: own(view).roll(1, 0)
        optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], 3e-3)
        for step in range(40):
            loss = method(*made(method, step))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for memory in method.memories():
                memory.commit(Clock(step, 40))
        losses[broken] = float(loss.detach())
    assert losses[False] < 0.7 * losses[True]


@pytest.mark.parametrize("method", [ATSTClip, ATSTFrame])
def test_what_has_no_values_to_mix_is_refused_with_a_reason(method):
    facts = Facts("text", 9, (8,), vocabulary=20)
    with pytest.raises(NotApplicable, match="values"):
        method.build(build_backbone("text_transformer", facts, width=16, heads=2), facts)
