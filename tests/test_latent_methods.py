"""Latent prediction and its kin: each paper's formula by naive loops, exact identities between methods, and what may not be seen."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from selftaught.contracts import Clock, Facts, NotApplicable, OptionError, Terms, View, find
from selftaught.networks import build_backbone
from selftaught.networks.context import attending_to
from selftaught.objectives.alignment import place_cross_entropy, token_cross_entropy, uncertainty_weighted
from selftaught.testing import draft, source_of

NARROW = {"backbone.width": 16, "backbone.depth": 2, "backbone.heads": 2, "batch_size": 6}
HEADS = {"width": 16, "depth": 1, "heads": 2, "hidden": 16, "bottleneck": 8, "outputs": 12}


def one_step(name, modality="image", **changes):
    """(method, views, batch) in float64, weights and views from the plan's seed."""
    source, known = source_of(modality, 24), find("method", name).options()
    narrow = {f"method.{n}": v for n, v in HEADS.items() if n in known}
    plan = draft(name, modality, source, **{**NARROW, **narrow, **changes})
    method, stream = plan.build_method().double(), plan.stream(source)
    batch = next(stream.batches(0, 1, rank=0, world=1, accumulate=1))
    return method, [v.with_(x=v.x.double()) for v in stream.views(batch, batch.draws(0, "train"))], batch


def total(out):
    return out.total if isinstance(out, Terms) else out


def alone(view, i):
    """Item i of a view that has masks."""
    return View(view.x[i : i + 1], masks=view.masks[:, i : i + 1], applied={k: view.applied[k][:, i : i + 1] for k in ("keep", "hidden")})


# ---- objectives --------------------------------------------------------------------------------------------------------------------


def test_entropies_of_tokens_are_their_sums():
    logits, targets = torch.randn(2, 3, 5, dtype=torch.float64), torch.rand(2, 3, 5, dtype=torch.float64).softmax(-1)
    targets[0, 1] = torch.nan
    found = token_cross_entropy(logits, targets, temperature=0.3)
    for i in range(2):
        for t in range(3):
            p = (logits[i, t] / 0.3).exp() / (logits[i, t] / 0.3).exp().sum()
            wanted = -sum(float(targets[i, t, k]) * float(p[k].log()) for k in range(5))
            assert found[i, t].isnan() if (i, t) == (0, 1) else float(found[i, t]) == pytest.approx(wanted)
    valid = torch.tensor([[True, True, True], [True, False, True]])
    places = place_cross_entropy(logits, torch.tensor([[4, 0, 2]] * 2), valid)
    assert places[1, 1].isnan() and float(places[0, 0]) == pytest.approx(float(-logits[0, 0].log_softmax(0)[4]))


def test_the_best_uncertainty_of_a_task_is_its_loss():
    s = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert float(uncertainty_weighted(torch.tensor(2.0), s.detach(), scale=0.5)) == pytest.approx(math.exp(-0.3) + 0.15)
    best = torch.tensor(2 * 2.0).log().double().requires_grad_()  # ds = 0 where exp(s) = 2 · scale · loss
    uncertainty_weighted(torch.tensor(2.0), best).backward()
    assert float(best.grad) == pytest.approx(0.0, abs=1e-6)


# ---- FlexPredict and I-JEPA -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("modality", ["image", "series", "table"])
def test_without_noise_flexpredict_is_jepa_to_the_bit(modality):
    losses, gradients = [], []
    for name, options in (("jepa", {}), ("flexpredict", {"method.sigma": 0.0}), ("flexpredict", {})):
        method, views, batch = one_step(name, modality, **options)
        losses.append(total(method(views, batch)))
        losses[-1].backward()
        gradients.append([p.grad for p in method.parameters() if p.requires_grad])
    assert torch.equal(losses[0], losses[1]) and not torch.equal(losses[0], losses[2])
    assert all(torch.equal(a, b) for a, b in zip(gradients[0], gradients[1], strict=True))


def test_the_noise_of_a_place_goes_through_the_matrix_of_the_context():
    method, (view,), batch = one_step("flexpredict")
    context, grid = method.student.backbone(view.x, keep=view.applied["keep"][0]), (3, 3)
    noise, predictor = method.noise(view, batch), method.predictor
    assert noise.shape[1:] == (view.applied["hidden"].shape[2], 16) and len(noise) == 2 * 6
    m, i = 1, 4  # the second mask of the fifth item
    hidden, keep = view.applied["hidden"][m, i], view.applied["keep"][0, i]
    places = predictor.positions(grid, view.x)[0]
    x = torch.cat([predictor.enter(context.pooled[i])[None], predictor.enter(context.tokens[i]) + places[keep],
                   noise[m * 6 + i].double() @ predictor.enter.weight.T + places[hidden] + predictor.mask_token])[None]
    for block in predictor.blocks:
        x = block(x)
    wanted = predictor.leave(predictor.norm(x[0, -len(hidden):]))
    torch.testing.assert_close(method.predicted(context, view, batch)[m * 6 + i], wanted)


# ---- DINOv2 ----------------------------------------------------------------------------------------------------------------------


def test_without_tokens_and_spread_and_with_a_centre_dinov2_is_dino():
    plain = {"method.ibot": 0.0, "method.koleo": 0.0, "method.centring": "softmax"}
    second, views, batch = one_step("dinov2", **plain)
    first = find("method", "dino")(copy.deepcopy(second.student.backbone), outputs=12, hidden=16, bottleneck=8, norm=True,
                                   teacher_temperature=(0.04, 0.04)).double()
    for mine, theirs in ((first.student, second.student), (first.teacher, second.teacher)):
        assert not mine.load_state_dict(theirs.state_dict(), strict=False).missing_keys
    total(second(views, batch)).backward()  # what plays no part has no gradient, and several processes wait for none
    assert all((p.grad is not None) == p.requires_grad for p in second.parameters())
    assert not second.mask_token.requires_grad and find("method", "dinov2").defaults.groups.keys() >= {"student.patches.last"}
    first.centre.value.normal_()
    second.centre.value.copy_(first.centre.value)
    a, b = total(first(views, batch)), total(second(views, batch))
    assert torch.equal(a, b) and all(v.masks is None for v in views)
    for method in (first, second):
        method.centre.commit(Clock())
    assert torch.equal(first.centre.value, second.centre.value)


def test_ibot_is_dino_on_the_hidden_tokens_of_one_large_view_of_each_item():
    method, views, batch = one_step("dinov2", **{"method.centring": "softmax", "method.norm": False, "method.masked": (0.4, 0.4)})
    method.patch_centre.value.normal_()
    named = method(views, batch).named
    chosen, losses = batch.draws(0, "dinov2").integers("hidden view", 2), []
    for i, k in enumerate(chosen.tolist()):
        view, places = views[k], views[k].applied["hidden"][0, i]
        seen = method.student.backbone(view.x[i : i + 1], masked=view.masks[0, i : i + 1], mask_token=method.mask_token).tokens
        taught = method.teacher.backbone(view.x[i : i + 1]).tokens
        p = (method.student.patches(seen[0, places]) / 0.1).log_softmax(1)
        t = ((method.teacher.module.patches(taught[0, places]) - method.patch_centre.value) / 0.04).softmax(1)
        losses.append(-(t * p).sum(1).mean())
    assert 0 < chosen.sum() < 6  # both views are chosen
    torch.testing.assert_close(named["ibot"], torch.stack(losses).sum() / 12)  # of 12 large views half have hidden tokens
    pooled = [method.student.backbone(v.x, masked=v.masks[0] & (chosen == k)[:, None], mask_token=method.mask_token).pooled
              for k, v in enumerate(views[:2])]
    spread = 0.0
    for z in (F.normalize(p.detach(), dim=1) for p in pooled):
        nearest = [min(float((z[i] - z[j]).norm()) for j in range(6) if j != i) for i in range(6)]
        spread -= float(torch.tensor(nearest, dtype=torch.float64).log().mean())
    assert float(named["koleo"]) == pytest.approx(spread, rel=1e-5)


def test_an_unknown_centring_is_named():
    with pytest.raises(OptionError, match="sinkhorn"):
        one_step("dinov2", **{"method.centring": "sinkhron"})


# ---- CAE and dBOT ----------------------------------------------------------------------------------------------------------------


def test_cae_predicts_what_its_encoder_makes_of_the_hidden_tokens_and_decodes_that_alone():
    method, (view,), batch = one_step("cae")
    found, b, parts = method([view], batch), method.student.backbone, []
    for i in range(6):
        one, hidden = alone(view, i), view.applied["hidden"][0, i]
        latents = method.regressor(b(one.x, keep=one.applied["keep"][0]), one, (3, 3))
        own = b(one.x, keep=hidden[None]).tokens
        decoded = method.decoder(latents, one, (3, 3))
        parts.append(torch.stack([(decoded - method.targets(view)[i, hidden]).square().mean(), (latents - own).square().mean()]))
    torch.testing.assert_close(torch.stack([found.named["reconstruction"], found.named["alignment"]]), torch.stack(parts).mean(0).detach())
    torch.testing.assert_close(found.total.detach(), found.named["reconstruction"] + 2.0 * found.named["alignment"])
    assert not method.latents(view).requires_grad


@pytest.mark.parametrize("name", ["cae", "mp3", "dbot"])
def test_a_batch_of_varying_lengths_equals_one_by_one(name):
    method, (view,), batch = one_step(name, "series")
    inside, lengths = torch.tensor([16, 10, 4]), torch.tensor([64, 37, 16])
    keep = torch.tensor([[0, 3, *range(10, 16)], [1, 2, 4, 5, 12, 13, 14, 15], [0, 2, *range(4, 10)]])  # some of it padding
    hidden = torch.stack([torch.tensor([p for p in range(16) if p not in row]) for row in keep.tolist()])
    masks = torch.zeros(1, 3, 16, dtype=torch.bool).scatter_(2, hidden[None], True)
    whole = View(view.x[:3], lengths=lengths, masks=masks, applied={"keep": keep[None], "hidden": hidden[None], "tokens": inside})
    losses = []
    for i, n in enumerate(inside.tolist()):
        own = {k: v[i][v[i] < n][None, None] for k, v in (("keep", keep), ("hidden", hidden))} | {"tokens": inside[i : i + 1]}
        one = View(view.x[i : i + 1, :, : lengths[i]], lengths=lengths[i : i + 1], masks=masks[:, i : i + 1, :n], applied=own)
        losses.append(total(method([one], batch)))
    torch.testing.assert_close(total(method([whole], batch)), torch.stack(losses).mean(), rtol=1e-9, atol=1e-11)


def test_dbot_predicts_a_teacher_that_stays_and_then_starts_anew_from_its_student():
    method, (view,), batch = one_step("dbot", **{"method.norm": "layer", "method.stages": 3})
    first = [p.clone() for part in method.first for p in part.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(method.teacher.module.parameters(), method.student.parameters(), strict=True))
    seen = method.student.backbone(view.x, keep=view.applied["keep"][0])
    y = F.layer_norm(method.teacher.backbone(view.x).tokens, (16,))[view.masks[0]]
    predicted = method.predictor(seen, view, (3, 3)).flatten(0, 1)
    torch.testing.assert_close(total(method([view], batch)), F.smooth_l1_loss(predicted, y, beta=2.0))
    with torch.no_grad():
        for p in method.student.parameters():
            p.normal_()
    method.teacher.commit(Clock(3, 10))
    assert torch.equal(next(method.teacher.module.parameters()), first[0])
    trained, breaks = [p.clone() for p in method.student.parameters()], []
    with torch.no_grad():
        for epoch in range(7):
            method.clock = Clock(epoch=epoch, epochs=7)
            if method.between_epochs(None):
                breaks.append(epoch)
                if len(breaks) == 1:
                    assert all(torch.equal(a, b) for a, b in zip(method.teacher.module.parameters(), trained, strict=True))
    assert breaks == [3, 5]  # three stages of 7 epochs
    now = [p for part in method.learned() for p in part.parameters()]
    assert all(torch.equal(a.flatten().sort()[0], b.flatten().sort()[0]) for a, b in zip(now, first, strict=True))
    assert not torch.equal(now[0], first[0])


def test_dbot_leaves_first_values_that_were_no_draws():
    facts = Facts("series", 8, (2, 16))
    method = find("method", "dbot").build(build_backbone("mamba", facts, width=8, depth=1), facts, width=8, depth=1, heads=2)
    rates = {n: p.clone() for n, p in method.student.named_parameters() if n.endswith("rate")}
    with torch.no_grad():
        for p in method.student.parameters():
            p.add_(1.0)
        method.clock = Clock(epoch=1, epochs=2)
        assert rates and method.between_epochs(None)
    assert all(torch.equal(dict(method.student.named_parameters())[n], rate) for n, rate in rates.items())


# ---- MP3 and LUT ----------------------------------------------------------------------------------------------------------------


def test_mp3_tells_places_from_contents_alone():
    method, (view,), batch = one_step("mp3", **{"backbone.patch": 3})
    backbone, losses = method.student.backbone, []
    found = method([view], batch)
    for i in range(6):
        with attending_to(backbone, ~view.masks[0, i : i + 1]):
            logits = method.head(backbone(view.x[i : i + 1]).tokens[0])
        losses.append(F.cross_entropy(logits, torch.arange(16)))
    torch.testing.assert_close(found.total, torch.stack(losses).mean())
    tiles = view.x.unflatten(3, (4, 3)).unflatten(2, (4, 3)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # [B, 16, C, 3, 3]
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    moved = tiles[:, order].unflatten(1, (4, 4)).permute(0, 3, 1, 4, 2, 5).reshape(view.x.shape)
    torch.testing.assert_close(backbone(moved).tokens, backbone(view.x).tokens[:, order])
    with attending_to(backbone, ~view.masks[0]):
        before = backbone(view.x).tokens
        other = torch.where(view.masks[0].view(6, 1, 4, 4).repeat_interleave(3, 2).repeat_interleave(3, 3), -view.x, view.x)
        after = backbone(other).tokens
    assert torch.equal(before[~view.masks[0]], after[~view.masks[0]]) and not torch.equal(before, after)
    short = View(view.x[:1, :, :6, :9], applied={"keep": torch.tensor([[[0, 2, 5]]]), "hidden": torch.tensor([[[1, 3, 4]]])})
    assert method.targets(short).tolist() == [[0, 2, 6, 1, 4, 5]]  # of a grid of 2 × 3, on the whole one of 4 × 4


def test_mp3_refuses_what_has_no_order_and_positions_that_cannot_be_taken_away():
    with pytest.raises(NotApplicable, match="no order"):
        one_step("mp3", "table")
    with pytest.raises(OptionError, match="positions=learned"):
        facts = Facts("series", 8, (2, 16))
        find("method", "mp3")(build_backbone("vit_tiny", facts, width=16, depth=1, heads=2), facts=facts)


def test_lut_is_mae_and_a_prediction_of_the_other_view():
    method, views, batch = one_step("lut")
    found, plain = method(views, batch), find("method", "mae").loss(method, views[:1], batch)
    torch.testing.assert_close(found.named["reconstruction"], plain.detach())
    asked, taught = [], []
    for view in views:
        tokens = method.student.backbone(view.x, keep=view.applied["keep"][0]).tokens
        asked.append(F.normalize(method.predictor(method.student.head(tokens.mean(1))), dim=1))
        taught.append(F.normalize(method.teacher.module.head(method.teacher.backbone(view.x).tokens.mean(1)), dim=1))
    context = [(2 - 2 * (asked[a] * taught[1 - a]).sum(1)).mean() for a in range(2)]
    torch.testing.assert_close(found.total, plain + 0.25 * torch.stack(context).mean())
