"""ASiT: what is overwritten, its three losses against naive loops, padding, and that it learns what other items' signals do not teach."""

import torch

from selftaught.contracts import Batch, Clock, Draws, Facts, View
from selftaught.methods import ASiT
from selftaught.networks import build_backbone
from selftaught.views.masks import Masked

SIZES = {"outputs": 12, "patch_outputs": 10, "hidden": 16, "bottleneck": 8, "masked": (0.3, 0.3), "size": 2}


def built(**options):
    torch.manual_seed(0)
    facts = Facts("series", 256, (2, 32))
    backbone = build_backbone("vit_tiny", facts, patch=4, width=16, depth=1, heads=2, pool="mean")
    return ASiT.build(backbone, facts, **SIZES, **options).double()


def made(method, step=0, items=8, lengths=None):
    """(views, batch): twice one of two signs of a pattern in noise, with masks."""
    index = torch.arange(items) + items * step
    draws = Draws.for_items(0, "train", torch.zeros_like(index), index)
    pattern = torch.randn(2, 32, generator=torch.Generator().manual_seed(1))
    sign = torch.where(draws.happens("sign", 0.5, 1, 1), 1.0, -1.0)
    views = [View((sign * pattern + 0.2 * draws.normal(f"noise {k}", 2, 32)).double(), lengths) for k in range(2)]
    batch = Batch({"x": views[0].x}, index, index, torch.zeros_like(index))
    return Masked(lambda b, d: views, ASiT.needed(SIZES).mask, method.student.backbone.grid)(batch, draws), batch


def test_constants_are_a_solution_where_nothing_is_restored():
    assert built().grounded and not built(reconstruction=0.0).grounded


def test_groups_show_the_neighbour_and_the_rest_is_as_it_was():
    method = built()
    (view, _), _ = made(method)
    seen = method.overwritten(view)
    dropped, foreign = (mask.repeat_interleave(4, 1)[:, None].expand_as(view.x) for mask in (view.masks[0], view.masks[1] & ~view.masks[0]))
    neighbour = view.x[torch.tensor([1, 0, 3, 2, 5, 4, 7, 6])]
    assert foreign.any() and torch.equal(seen.x[foreign], neighbour[foreign]) and torch.equal(seen.x[~foreign], view.x[~foreign])
    assert torch.equal(seen.masks, view.masks[:1]) and (dropped & ~foreign).any()


def test_the_losses_equal_naive_loops():
    method = built(whole=1.0, local=0.5, reconstruction=2.0)
    views, batch = made(method)
    out = method(views, batch)
    seen, taught = [method.encode(method.overwritten(v)) for v in views], [method.targets(v) for v in views]
    s, t = [method.scores(method.student, f) for f in seen], [method.scores(method.teacher.module, f) for f in taught]
    entropy = lambda target, score: -((target / 0.04).softmax(0) * (score / 0.1).log_softmax(0)).sum()  # noqa: E731
    whole = sum(entropy(t[a][0][i], s[1 - a][0][i]) for a in range(2) for i in range(8)) / 16
    local = sum(entropy(t[a][1][i, n], s[a][1][i, n]) for a in range(2) for i in range(8) for n in range(8)) / 128
    error = 0.0
    for view, features in zip(views, seen):
        found, signal = method.restore(features[:, 1:]), view.x.unflatten(2, (8, 4)).transpose(1, 2).flatten(2)
        for i in range(8):
            places = [n for n in range(8) if view.masks[:, i, n].any()]
            error = error + sum((found[i, n] - signal[i, n]).abs().mean() for n in places) / len(places) / 16
    for name, value in (("whole", whole), ("local", local), ("reconstruction", error)):
        assert torch.allclose(out.named[name], value.detach(), atol=1e-10), name
    assert torch.allclose(out.total, whole + 0.5 * local + 2.0 * error, atol=1e-10)


def test_padding_changes_neither_losses_nor_centres():
    method, lengths = built(), torch.tensor([32, 20, 12, 32, 20, 12, 32, 16])
    views, batch = made(method, lengths=lengths)
    found = []
    for padding in (0.0, 7.0):
        past = torch.arange(32) >= lengths[:, None, None]
        out = method([v.with_(x=v.x.masked_fill(past, padding)) for v in views], batch)
        method.patch_centre.commit(Clock())
        found.append((out.total.detach(), method.patch_centre.value.clone()))
        method.patch_centre.value.zero_()
    assert torch.allclose(found[0][0], found[1][0], atol=1e-12) and torch.allclose(found[0][1], found[1][1], atol=1e-12)


def test_it_restores_what_other_items_do_not_tell():
    errors = {}
    for broken in (False, True):
        method = built(whole=0.0, local=0.0).float()
        if broken:
            own = method.hidden_signal
            method.hidden_signal = lambda view, own=own: own(view).roll(1, 0)
        optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], 1e-2)
        for step in range(100):
            views, batch = made(method, step, 32)
            out = method([v.with_(x=v.x.float()) for v in views], batch)
            optimizer.zero_grad()
            out.total.backward()
            optimizer.step()
        errors[broken] = float(out.named["reconstruction"])
    assert errors[False] < 0.75 * errors[True]
