"""Masks on a grid of tokens: exact counts, distributions, lengths, sameness over batches; and how a plan wires them."""

import math
from dataclasses import replace

import pytest
import torch

from selftaught.contracts import Draws, NotApplicable, OptionError, Pair, View
from selftaught.contracts.needs import Mask
from selftaught.methods import SimCLR
from selftaught.plan import make_plan
from selftaught.testing import source_of
from selftaught.views.masks import KINDS, Masked, hidden_count, hidden_tokens

N = 4000


def draws(n=N, seed=0, step=0):
    return Draws.for_items(seed, "train", torch.zeros(n), torch.arange(n), step=step)


@pytest.mark.parametrize("tokens, ratio, count", [(196, 0.75, 147), (196, 0.15, 30), (9, 0.15, 2), (10, 0.9, 9), (4, 0.99, 3),
                                                  (1, 0.5, 0), (16, 0.0, 0)])
def test_the_count_is_that_of_the_papers_codes_and_one_token_stays(tokens, ratio, count):
    assert hidden_count(tokens, ratio) == count


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grid", [(7,), (5, 6), (3, 4, 5)])
def test_every_sample_hides_equally_many(kind, grid):
    for ratio in (0.15, 0.5, 0.8):
        hidden = hidden_tokens(draws(300), grid, ratio, kind=kind)
        assert (hidden.sum(1) == hidden_count(math.prod(grid), ratio)).all()
        assert len(hidden.unique(dim=0)) > 1


def test_random_masks_hide_every_token_and_every_pair_as_often():
    hidden = hidden_tokens(draws(), (4, 4), 0.75).double()
    assert (hidden.mean(0) - 0.75).abs().max() < 0.03
    pairs = (hidden.T @ hidden / N)[~torch.eye(16, dtype=torch.bool)]
    assert (pairs - 0.75 * 11 / 15).abs().max() < 0.035  # drawn without replacement


def test_a_block_is_a_box_within_the_grid():
    side = 12
    hidden = hidden_tokens(draws(), (side, side), 0.25, kind="block").view(-1, side, side)
    rows, columns = hidden.any(2), hidden.any(1)
    for lines in (rows, columns):  # consecutive lines, nothing apart
        assert (lines.int().diff(dim=1).clamp(min=0).sum(1) + lines[:, 0].int() == 1).all()
    box = rows.sum(1) * columns.sum(1)
    assert (box <= 36 + 14).all() and box.float().mean() < 43  # 36 hidden: at most an edge is ragged
    assert rows.sum(1).min() < 6 < rows.sum(1).max()  # aspects vary
    assert hidden.float().mean(0).min() > 0.005  # and it comes everywhere


def test_short_items_hide_their_own_share_and_keep_a_token():
    lengths = torch.randint(1, 21, (N,), generator=torch.Generator().manual_seed(0))
    for kind in KINDS:
        for ratio in (0.15, 0.5, 0.9):
            hidden = hidden_tokens(draws(), (20,), ratio, kind=kind, lengths=lengths)
            inside = torch.arange(20) < lengths[:, None]
            own = (hidden & inside).sum(1)
            assert (hidden.sum(1) == hidden_count(20, ratio)).all()
            wanted = (lengths * ratio - 1e-6).ceil().minimum(lengths - 1)
            assert (own - wanted).abs().max() <= 1 and (own < lengths).all()


def test_full_length_is_no_length():
    for kind in KINDS:
        full = hidden_tokens(draws(50), (20,), 0.4, kind=kind, lengths=torch.full((50,), 20))
        assert torch.equal(full, hidden_tokens(draws(50), (20,), 0.4, kind=kind))


def test_a_mask_belongs_to_the_item_not_to_its_batch():
    both, part = draws(40), Draws(draws(40).keys[13:20], draws(40).step_key)
    for kind in KINDS:
        assert torch.equal(hidden_tokens(both, (6, 6), 0.5, kind=kind)[13:20], hidden_tokens(part, (6, 6), 0.5, kind=kind))


def test_random_masks_come_in_cells_of_their_size():
    hidden = hidden_tokens(draws(500), (6, 8), 0.5, size=2).view(500, 3, 2, 4, 2)
    assert (hidden.sum((2, 4)) % 4 == 0).all() and (hidden.sum((1, 2, 3, 4)) == 24).all()
    ragged = hidden_tokens(draws(500), (5,), 0.6, size=2)  # of cells of 2, 2 and 1 tokens
    assert (ragged.sum(1) == 3).all() and (ragged[:, 0] != ragged[:, 1]).float().mean() < 0.5


def test_spans_are_runs_that_come_everywhere_alike():
    hidden = hidden_tokens(draws(), (100,), 0.3, kind="span", size=10)
    starts = torch.nn.functional.pad(hidden.long(), (1, 0)).diff(dim=1).eq(1).sum(1).double()
    alone = torch.nn.functional.pad(hidden_tokens(draws(), (100,), 0.3).long(), (1, 0)).diff(dim=1).eq(1).sum(1).double()
    assert 2.5 < starts.mean() < 5 < 15 < alone.mean()
    rates = hidden.double().mean(0)
    assert (rates - 0.3).abs().max() < 0.05  # the cut span shows its beginning


def test_spans_on_images_are_boxes_and_islands_leave_boxes():
    for kind, ratio in (("span", 0.25), ("islands", 0.75)):
        chosen = hidden_tokens(draws(400), (8, 8), ratio, kind=kind, size=4)
        if kind == "islands":
            chosen = ~chosen
        rows, columns = chosen.view(400, 8, 8).any(2).sum(1), chosen.view(400, 8, 8).any(1).sum(1)
        assert (chosen.sum(1) == 16).all() and (rows * columns).float().mean() < 40  # of 16 random tokens about 60


def test_boxes_as_large_as_the_grid_differ_all_the_same():
    hidden = hidden_tokens(draws(32), (8,), 0.5, size=1000)
    assert (hidden.sum(1) == 4).all() and len(hidden.unique(dim=0)) > 1


@pytest.mark.parametrize(("mask", "said"), [
    (Mask("random", (1.0, 1.0)), "masked=1.0 of a mask"), (Mask("random", (0.5, 0.2)), r"masked=\(0.5, 0.2\)"),
    (Mask("random", (0.5, 0.5), count=0), "masks=0 .*at least 1"), (Mask("random", (0.5, 0.5), size=0), "size=0"),
    (Mask("block", (0.2, 0.2), context=(0.0, 1.0)), "context=")])
def test_masks_that_cannot_be_are_named(mask, said):
    with pytest.raises(OptionError, match=said):
        Masked(lambda b, d: [], mask, lambda s: s)


def test_tubes_are_the_same_at_all_steps():
    hidden = hidden_tokens(draws(200), (6, 4, 4), 0.75, kind="tube").view(200, 6, 16)
    assert (hidden == hidden[:, :1]).all() and (hidden[:, 0].sum(1) == 12).all()
    assert torch.equal(hidden_tokens(draws(9), (12,), 0.5, kind="tube"), hidden_tokens(draws(9), (12,), 0.5))


@pytest.mark.parametrize("grid", [(196 // 14, 14), (8, 8), (16,), (3, 3), (4, 4, 4)])
def test_a_context_is_what_no_target_hides(grid):
    shape, tokens = (2, *(4 * n for n in grid)), math.prod(grid)
    view = View(torch.zeros(64, *shape))
    mask = Mask("block", (0.15, 0.2), count=4, context=(0.85, 1.0))
    sizes = set()
    for step in range(6):
        (seen,) = Masked(lambda b, d: [view], mask, lambda s: tuple(n // 4 for n in s[-len(grid):]))(None, draws(64, step=step))
        keep, hidden = seen.applied["keep"], seen.applied["hidden"]
        assert keep.shape[:2] == (1, 64) and hidden.shape[:2] == (4, 64)
        left = tokens - 4 * hidden.shape[2]
        assert max(int(0.85 * left), 1) <= keep.shape[2] <= max(left, 1)
        assert not seen.masks.any(0).gather(1, keep[0]).any()
        assert (keep.diff(dim=-1) > 0).all() and all(len(set(map(tuple, m.tolist()))) > 1 for m in hidden)
        sizes.add(keep.shape[2])
    assert len(sizes) > 1 or tokens < 20


def test_short_items_have_a_context_of_their_own():
    lengths = torch.tensor([120, 100, 61, 60, 40, 17, 9, 1])
    (seen, _) = masked(Mask("block", (0.15, 0.15), count=3, context=(1.0, 1.0)), lengths, steps=120)(None, draws(8))
    inside = -(-lengths // 4)
    assert seen.applied["tokens"].tolist() == inside.tolist()
    keep = seen.applied["keep"][0]
    own = (keep < inside[:, None]).sum(1)
    assert (own >= 1).all() and (own <= (inside - 3 * (inside * 0.15).floor()).clamp(min=1)).all()
    hides = seen.masks.any(0).gather(1, keep) & (keep < inside[:, None])
    assert not hides[:5].any()


def masked(mask, lengths=None, role="global", steps=30):
    view = View(torch.zeros(8, 2, steps), lengths=lengths, role=role)
    return Masked(lambda batch, draws: [view, view.with_(role="local")], mask, lambda shape: (-(-shape[-1] // 4),))


def test_views_bear_masks_and_the_places_that_are_kept():
    lengths = torch.tensor([30, 29, 28, 9, 8, 5, 4, 1])
    view, local = masked(Mask("random", (0.5, 0.5), count=3), lengths)(None, draws(8))
    assert local.masks is None and view.masks.shape == (3, 8, 8) and view.applied["keep"].shape == (3, 8, 4)
    for m in range(3):
        for b in range(8):
            assert view.applied["keep"][m, b].tolist() == (~view.masks[m, b]).nonzero()[:, 0].tolist()
            assert view.applied["hidden"][m, b].tolist() == view.masks[m, b].nonzero()[:, 0].tolist()
            assert (view.applied["keep"][m, b] < -(-lengths[b] // 4)).any()
    assert not torch.equal(view.masks[0], view.masks[1])


def test_the_part_is_drawn_once_a_step():
    make = masked(Mask("random", (0.2, 0.9)))
    parts = [int(make(None, draws(8, step=s))[0].masks[0, 0].sum()) for s in range(60)]
    assert min(parts) <= 3 and max(parts) >= 6 and len(set(parts)) >= 5
    other = make(None, Draws(draws(8, seed=3).keys, draws(8, step=7).step_key))[0]
    assert int(other.masks[0, 0].sum()) == parts[7]  # other items, the same step: as on another process


def test_what_is_refused():
    with pytest.raises(OptionError, match="random"):
        masked(Mask("randon"))


class _Hidden(SimCLR):
    name = "hidden"
    needs = Pair(backbone=frozenset({"tokens", "keep"}), mask=Mask("block", (0.5, 0.5)))


@pytest.mark.parametrize("modality, tokens", [("image", "vit_tiny"), ("series", "vit_tiny"), ("table", "table_transformer")])
def test_the_plan_finds_a_backbone_with_tokens_and_masks_on_its_grid(modality, tokens):
    source = source_of(modality, 64)
    small = {"backbone.width": 16, "backbone.depth": 1, "backbone.heads": 1, "steps": 1, "batch_size": 8, "device": "cpu"}
    plan = make_plan(source, {"method": _Hidden, **small})
    assert plan["backbone"] == tokens
    stream, method = plan.stream(source), plan.build_method()
    batch = next(stream.batches(0, 1, rank=0, world=1, accumulate=1))
    for view in stream.views(batch, batch.draws(0, "train")):
        whole = method.student.backbone(view.x, lengths=view.lengths).tokens.shape[1]
        assert view.masks.shape == (1, 8, whole)
        kept = method.student.backbone(view.x, lengths=view.lengths, keep=view.applied["keep"][0])
        assert kept.tokens.shape[1] == whole - hidden_count(whole, 0.5)
    with pytest.raises(NotApplicable, match=f"encoder of some tokens.*{tokens}"):
        make_plan(source, {"method": _Hidden, "steps": 1, "device": "cpu", "backbone": "mlp"}).stream(source)


def test_needs_without_a_mask_have_none():
    assert Pair().mask is None and replace(Pair(), mask=Mask()).mask.ratio == (0.75, 0.75)
