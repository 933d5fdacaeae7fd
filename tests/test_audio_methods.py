"""The methods that came with sound: margins and identification against naive loops, exact identities, alterations, and that they learn."""

import pytest
import torch
import torch.nn.functional as F

from selftaught.contracts import Batch, Draws, Facts, Mask, NotApplicable, View
from selftaught.methods.infomax_contrast import InfomaxContrast
from selftaught.methods.ssast import SSAST
from selftaught.methods.tera import TERA, on_values, row_block
from selftaught.networks import build_backbone
from selftaught.objectives import info_nce, nt_xent
from selftaught.objectives.identification import token_nce
from selftaught.objectives.margin import margin_info_nce, margin_nt_xent
from selftaught.views.masks import Masked

SMALL = {"width": 32, "depth": 2, "heads": 2, "pool": "mean"}


def pairs():
    torch.manual_seed(0)
    return torch.randn(6, 5).double().requires_grad_(), torch.randn(6, 5).double().requires_grad_()


# ---- objectives ------------------------------------------------------------------------------------------------------


def test_without_margin_they_are_nt_xent_and_info_nce_with_their_gradients():
    for ours, theirs in ((margin_nt_xent, nt_xent), (margin_info_nce, info_nce)):
        a, b = pairs()
        mine, other = ours(a, b, temperature=0.1, margin=0.0), theirs(a, b, temperature=0.1)
        assert (mine - other).abs() < 1e-12
        for one, two in zip(torch.autograd.grad(mine, (a, b)), torch.autograd.grad(other, (a, b)), strict=True):
            assert (one - two).abs().max() < 1e-12


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_margin_is_taken_from_the_positive_alone(symmetric):
    a, b = pairs()
    views = F.normalize(torch.cat([a, b]), dim=1)
    cosine, total = views @ views.T, 0.0
    for i in range(12 if symmetric else 6):
        j, others = (i + 6) % 12, range(12) if symmetric else range(6, 12)
        own = torch.exp((cosine[i, j] - 0.2) / 0.1)
        total = total - torch.log(own / (own + sum(torch.exp(cosine[i, k] / 0.1) for k in others if k not in (i, j)))) / 6
    ours = (margin_nt_xent if symmetric else margin_info_nce)(a, b, temperature=0.1, margin=0.2)
    assert torch.allclose(ours, total)
    assert ours > (margin_nt_xent if symmetric else margin_info_nce)(a, b, temperature=0.1, margin=0.1)


def test_a_queue_gives_the_negatives_of_the_margin_loss():
    (a, b), queue = pairs(), torch.randn(9, 5).double()
    assert torch.allclose(margin_info_nce(a, b, queue, temperature=0.1, margin=0.0), info_nce(a, b, queue, temperature=0.1))


def test_identification_equals_a_naive_loop_and_leaves_out_what_is_not_there():
    torch.manual_seed(0)
    predicted, target = torch.randn(2, 4, 3).double(), torch.randn(2, 4, 3).double()
    target[1, 2] = torch.nan
    loss, right = token_nce(predicted, target)
    for b in range(2):
        there = [t for t in range(4) if not target[b, t].isnan().any()]
        for t in range(4):
            if t not in there:
                assert loss[b, t].isnan() and right[b, t].isnan()
                continue
            scores = torch.stack([predicted[b, t] @ target[b, k] for k in there])
            assert torch.allclose(loss[b, t], scores.logsumexp(0) - scores[there.index(t)])
            assert right[b, t] == float(there[scores.argmax()] == t)


# ---- methods ---------------------------------------------------------------------------------------------------------


def masked_series(method_class, steps=32, items=32, **options):
    """A method on series that are one pattern or its negative, and a maker of its (views, batch): what is seen tells the sign, the place
    the rest."""
    torch.manual_seed(0)
    facts = Facts("series", 256, (2, steps))
    pattern = torch.randn(2, steps)
    method = method_class.build(build_backbone("vit_tiny", facts, patch=4, **SMALL), facts, **options)

    def made(step: int):
        index = torch.arange(items) + items * step
        draws = Draws.for_items(0, "train", torch.zeros_like(index), index)
        sign = torch.where(draws.happens("sign", 0.5, 1, 1), 1.0, -1.0)
        batch = Batch({"x": sign * pattern}, index, index, torch.zeros_like(index))
        mask = method_class.needed({"masked": 0.5, "size": 2}).mask
        return Masked(lambda b, d: [View(b.x)], mask, method.student.backbone.grid)(batch, draws), batch

    return method, made


def trained(method, made, steps=40, broken=False):
    """Mean of the named figures over the last ten of so many steps; broken: the targets are another item's."""
    if broken:
        own = method.targets
        method.targets = lambda view: own(view).roll(1, 0)
    optimizer, found = torch.optim.AdamW(method.parameters(), lr=3e-3), []
    for step in range(steps):
        out = method(*made(step))
        optimizer.zero_grad()
        total = getattr(out, "total", out)
        total.backward()
        optimizer.step()
        found.append({"loss": float(total.detach()), **{k: float(v) for k, v in getattr(out, "named", {}).items()}})
    return {k: sum(f[k] for f in found[-10:]) / 10 for k in found[0]}


def test_ssast_tells_hidden_tokens_apart_and_draws_them_and_other_items_tokens_it_cannot():
    good, broken = trained(*masked_series(SSAST)), trained(*masked_series(SSAST), broken=True)
    assert good["accuracy"] > 0.5 > 0.4 > broken["accuracy"]  # one of four by chance
    assert good["error"] < 0.8 * broken["error"]


def test_ssast_without_a_part_is_the_other_alone():
    method, made = masked_series(SSAST, contrast=0.0, weight=2.0)
    out = method(*made(0))
    assert torch.allclose(out.total.detach(), 2.0 * out.named["error"])


def test_tera_puts_right_what_was_altered_and_not_what_is_another_items():
    good, broken = (trained(*masked_series(TERA), steps=70, broken=b) for b in (False, True))
    assert good["loss"] < 0.8 * broken["loss"]


def test_tera_alters_what_it_says_and_asks_for_nothing_else():
    method, made = masked_series(TERA, items=128, frequency=0.0, magnitude=0.0)
    (view,), batch = made(0)
    draws = batch.draws(0, "tera")
    hidden, block = on_values(view.masks[0], (8,), (4,), view.x), row_block(draws, view.x, 0.0)
    x = method.altered(view, hidden, block, draws)
    assert not block.any() and torch.equal(x.masked_select(~hidden.expand_as(x)), view.x.masked_select(~hidden.expand_as(x)))
    dice = draws.uniform("time")
    zeros, moved, left = dice < 0.8, dice >= 0.9, (dice >= 0.8) & (dice < 0.9)
    assert not x[zeros].masked_select(hidden[zeros].expand_as(x[zeros])).any() and torch.equal(x[left], view.x[left])
    assert moved.any() and (x[moved] != view.x[moved]).masked_select(hidden[moved].expand_as(x[moved])).float().mean() > 0.9
    wide = row_block(Draws(torch.arange(4000)), torch.zeros(4000, 1, 20, 3), 0.2)
    width = wide.sum((1, 2, 3))
    assert wide.shape == (4000, 1, 20, 1) and sorted(set(width.tolist())) == [0, 1, 2, 3, 4] and abs(float(width.float().mean()) - 2) < 0.1
    assert ((wide[:, 0, 1:, 0] & ~wide[:, 0, :-1, 0]).sum(1) <= 1).all()  # one run


def test_infomax_contrast_is_the_sum_of_its_parts():
    torch.manual_seed(0)
    backbone = build_backbone("convnet", Facts("series", 9, (1, 16)), widths=(4, 8))
    views, batch = [View(torch.randn(8, 1, 16)) for _ in range(2)], None
    for information in ("vicreg", "barlow_twins"):
        out = InfomaxContrast(backbone, width=8, hidden=8, contrast=0.5, weight=2.0, information=information)(views, batch)
        assert torch.allclose(out.total.detach(), 0.5 * out.named["contrast"] + 2.0 * out.named["information"])


@pytest.mark.parametrize("method", [SSAST, TERA])
def test_what_has_no_patches_is_refused_with_a_reason(method):
    facts = Facts("text", 9, (8,), vocabulary=20)
    assert isinstance(method.needs.mask, Mask)
    with pytest.raises(NotApplicable, match="values"):
        method.build(build_backbone("text_transformer", facts, width=16, heads=2), facts)
