"""Masked and latent prediction: the papers' formulas by naive loops, exact identities, and learning that a broken target undoes."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from selftaught.contracts import Clock, Facts, NotApplicable, OptionError, Terms, View, find
from selftaught.contracts.facts import Column
from selftaught.methods.mae import MAE
from selftaught.networks import build_backbone
from selftaught.networks.decoder import encode_masked, encode_visible, predicted_places
from selftaught.networks.signal import ColumnSignal, PatchSignal, ffn_outputs, layer_average, normalise_tokens, target_spread
from selftaught.objectives.masked import masked_mean, signal_error, token_error
from selftaught.testing import draft, score, source_of, train
from selftaught.views.masks import Masked

METHODS = ("mae", "simmim", "data2vec", "data2vec2", "jepa")
NARROW = {"backbone.width": 16, "backbone.depth": 2, "backbone.heads": 2}
DECODED = {"method.width": 16, "method.depth": 1, "method.heads": 2}
NAN = float("nan")


def options(name):
    return NARROW | (DECODED if "width" in find("method", name).options() else {})


def one_step(name, modality, **changes):
    """(method, view, batch) in float64."""
    source = source_of(modality, 32)
    plan = draft(name, modality, source, **{**options(name), "batch_size": 8, **changes})
    method, stream = plan.build_method().double(), plan.stream(source)
    batch = next(stream.batches(0, 1, rank=0, world=1, accumulate=1))
    (view,) = stream.views(batch, batch.draws(0, "train"))
    return method, view.with_(x=view.x.double()), batch


def total(out):
    return out.total if isinstance(out, Terms) else out


# ---- signals and errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape, patch", [((2, 7), (3,)), ((3, 4, 6), (2, 3)), ((1, 4, 3, 5), (2, 2, 2))])
def test_the_signal_of_a_token_is_what_its_patch_shows(shape, patch):
    x, signal = torch.randn(2, *shape), PatchSignal(shape[0], patch)
    tokens, counts = signal(x), [-(-side // p) for side, p in zip(shape[1:], patch)]
    assert tokens.shape == (2, math.prod(counts), signal.width) and signal.width == shape[0] * math.prod(patch)
    for n, place in enumerate(torch.cartesian_prod(*(torch.arange(c) for c in counts)).view(-1, len(counts)).tolist()):
        cut = x[(slice(None), slice(None), *(slice(i * p, (i + 1) * p) for i, p in zip(place, patch)))].flatten(1)
        there = ~tokens[:, n].isnan()
        assert torch.equal(tokens[:, n][there], cut.flatten()) and (there.sum(1) == cut.shape[1]).all()


def test_a_normalised_token_has_mean_zero_and_deviation_one_of_what_it_has():
    x = 3.0 + 2.0 * torch.randn(2, 4, 10, dtype=torch.float64)
    reference = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-6).sqrt()  # as MAE's code has it
    torch.testing.assert_close(normalise_tokens(x), reference)
    x[0, 1, 6:] = NAN
    torch.testing.assert_close(normalise_tokens(x)[0, 1, :6], normalise_tokens(x[:1, 1:2, :6])[0, 0])
    assert normalise_tokens(x)[0, 1, 6:].isnan().all()


@pytest.mark.parametrize("name", ["mae", "simmim", "cae", "tera", "lut"])
def test_tokens_of_few_values_are_predicted_as_they_are(name):
    """Normalised by itself a token of one value would be 0, whatever it shows."""
    facts = Facts("series", 8, (1, 24))
    backbone = build_backbone("vit_tiny", facts, width=16, depth=1, heads=2)
    options = {"depth": 1, "heads": 2} if name not in ("simmim", "tera") else {}
    method = find("method", name).build(backbone, facts, normalised=True, **options)
    x = torch.randn(4, 1, 24)
    assert method.signal.width == 1 and torch.equal(method.signal(x, normalised=True), x.transpose(1, 2))
    wide = PatchSignal(2, (2,))
    torch.testing.assert_close(wide(x.view(4, 2, 12), normalised=True), normalise_tokens(wide(x.view(4, 2, 12))))


def test_the_spread_of_targets_dies_with_what_tells_items_apart():
    """Also of targets that are normalised over each item, whose means are all 0."""
    layer = torch.randn(16, 6, 8)
    valid = torch.ones(16, 6, dtype=torch.bool)
    valid[3, 4:] = False
    for norm in ("instance", "layer", "none"):
        assert target_spread(layer_average([layer], valid, norm)) > 0.5
        assert target_spread(layer_average([layer[:1].expand_as(layer)], None, norm)) < 1e-6


def test_steps_beyond_the_length_are_no_target():
    tokens = PatchSignal(2, (4,))(torch.randn(2, 2, 10), torch.tensor([10, 5]))
    assert (~tokens.isnan()).sum((1, 2)).tolist() == [20, 10] and tokens[1, 2].isnan().all()


def test_the_error_of_a_row_is_squared_for_numbers_and_entropy_for_codes():
    signal = ColumnSignal(2, (3, 5))
    x = torch.tensor([[0.5, NAN, 2.0, 4.0], [-1.0, 0.3, -1.0, 0.0]])
    target, places = signal(x), torch.arange(4).expand(2, 4)
    predicted = torch.randn(2, 4, signal.width, requires_grad=True)
    error = signal_error(predicted, target, counts=signal.counts(places))
    p = predicted.detach()
    wanted = [[(p[0, 0, 0] - 0.5) ** 2, NAN, F.cross_entropy(p[0, 2, :3], torch.tensor(2)), F.cross_entropy(p[0, 3], torch.tensor(4))],
              [(p[1, 0, 0] + 1) ** 2, (p[1, 1, 0] - 0.3) ** 2, NAN, F.cross_entropy(p[1, 3], torch.tensor(0))]]
    torch.testing.assert_close(error.detach(), torch.tensor(wanted), equal_nan=True)
    masked_mean(error).backward()
    assert predicted.grad.isfinite().all() and (predicted.grad[0, 1] == 0).all()
    torch.testing.assert_close(masked_mean(error.detach()), torch.tensor(wanted).nanmean(1).mean())


@pytest.mark.parametrize("kind", ["l2", "l1", "smooth_l1"])
def test_errors_are_their_formulas(kind):
    a, b = torch.randn(3, 4, 5, dtype=torch.float64) * 2, torch.randn(3, 4, 5, dtype=torch.float64)
    b[0, 0, 2:], b[1, 2] = NAN, NAN
    found = token_error(a, b, kind=kind, beta=0.7)
    for i in range(3):
        for t in range(4):
            d = [abs(float(a[i, t, k] - b[i, t, k])) for k in range(5) if not b[i, t, k].isnan()]
            each = {"l2": [v * v for v in d], "l1": d, "smooth_l1": [v * v / 1.4 if v < 0.7 else v - 0.35 for v in d]}[kind]
            assert math.isnan(found[i, t]) if not d else float(found[i, t]) == pytest.approx(sum(each) / len(each))


def test_an_unknown_error_is_named():
    with pytest.raises(OptionError, match="smooth_l1"):
        token_error(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), kind="smoth_l1")


# ---- the methods are their formulas --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("modality", ["image", "series", "table"])
@pytest.mark.parametrize("name", ["mae", "simmim"])
def test_hidden_signal_is_predicted_from_what_is_left(name, modality):
    method, view, batch = one_step(name, modality)
    loss, errors = method([view], batch), []
    hidden, b = view.masks[0], method.student.backbone
    target = method.targets(view)
    for i in range(8):
        one = View(view.x[i : i + 1], masks=view.masks[:, i : i + 1],
                   applied={k: view.applied[k][:, i : i + 1] for k in ("keep", "hidden")})
        if name == "mae":
            seen = b(one.x, keep=(~hidden[i]).nonzero()[:, 0][None])
            predicted = method.decoder(seen, one, b.grid(one.x.shape))[0]
        else:
            predicted = method.head(b(one.x, masked=hidden[i][None], mask_token=method.mask_token).tokens)[0][hidden[i]]
        places = hidden[i].nonzero()[:, 0]
        error = signal_error(predicted[None], target[i, places][None], counts=method.signal.counts(places[None]),
                             kind="l2" if name == "mae" else "l1")
        errors.append(error.nanmean())
    torch.testing.assert_close(loss, torch.stack(errors).mean())


def test_data2vec_predicts_the_mean_of_the_normalised_upper_ffn_outputs():
    method, view, batch = one_step("data2vec", "image", **{"method.norm": "layer", "method.layers": 2})
    backbone, added = method.teacher.backbone, []
    x = backbone.embed(view.x).flatten(2).transpose(1, 2)
    x = torch.cat([backbone.transformer.cls.expand(8, -1, -1), x + backbone.positions(backbone.grid(view.x.shape), x)], 1)
    for block in backbone.transformer.blocks:
        whole = block(x)
        added.append((whole - _attended(block, x))[:, 1:])
        x = whole
    y = F.layer_norm(torch.stack([F.layer_norm(a, (16,)) for a in added]).mean(0), (16,))
    torch.testing.assert_close(method.targets(view), y)
    hidden = view.masks[0]
    predicted = method.head(encode_masked(method.student.backbone, view, method.mask_token).tokens)
    torch.testing.assert_close(total(method([view], batch)), F.smooth_l1_loss(predicted[hidden], y[hidden], beta=2.0))


def _attended(block, x):
    """x + attention(norm(x)), written out."""
    batch, count, width = x.shape
    q, k, v = block.qkv(block.norm1(x)).view(batch, count, 3, block.heads, -1).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-1, -2) / (width // block.heads) ** 0.5).softmax(-1)
    return x + block.out((weights @ v).transpose(1, 2).reshape(batch, count, width))


def test_jepa_predicts_each_block_from_one_context():
    blocks = {"method.masks": 4, "method.masked": (0.15, 0.2), "method.norm": "layer"}
    method, view, batch = one_step("jepa", "image", **{"backbone.patch": 2}, **blocks)
    keep, hidden = view.applied["keep"], view.applied["hidden"]
    assert view.masks.shape[0] == 4 and keep.shape[0] == 1 and hidden.shape == (4, 8, int(view.masks[0, 0].sum()))
    assert not view.masks.any(0).gather(1, keep[0]).any()  # no target is in the context
    context, losses = method.student.backbone(view.x, keep=keep[0]), []
    y = F.layer_norm(method.teacher.backbone(view.x).tokens, (16,))
    for m in range(4):
        one = view.with_(masks=view.masks[m : m + 1], applied={"keep": keep, "hidden": hidden[m : m + 1]})
        predicted = method.predictor(context, one, (6, 6))
        losses.append(F.smooth_l1_loss(predicted, y[view.masks[m]].view_as(predicted)))
    torch.testing.assert_close(total(method([view], batch)), torch.stack(losses).mean())


def test_instance_norm_is_that_of_each_item_without_its_padding():
    x, valid = torch.randn(2, 5, 3, dtype=torch.float64), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    found = layer_average([x], valid, "instance")
    for i, n in enumerate((5, 3)):
        torch.testing.assert_close(found[i, :n], F.instance_norm(x[i : i + 1, :n].transpose(1, 2)).transpose(1, 2)[0])
    assert found[1, 3:].isnan().all()


# ---- identities ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("modality", ["image", "series", "table"])
def test_an_empty_mask_makes_it_an_autoencoder(modality):
    method, view, batch = one_step("mae", modality, **{"method.masked": 0.0})
    count = view.masks.shape[-1]
    assert not view.masks.any() and torch.equal(predicted_places(view), torch.arange(count).expand(8, -1))
    encoded = method.student.backbone(view.x)
    predicted = method.decoder(encoded, view, method.student.backbone.grid(view.x.shape))
    error = signal_error(predicted, method.targets(view), counts=method.signal.counts(torch.arange(count).expand(8, -1)))
    torch.testing.assert_close(method([view], batch), masked_mean(error))


@pytest.mark.parametrize("name", METHODS)
def test_many_masks_differ_from_one_only_in_the_average(name):
    method, view, batch = one_step(name, "series", **{"method.masks": 3})
    each = []
    for m in range(3):
        keep = view.applied["keep"]
        applied = {"keep": keep if len(keep) == 1 else keep[m : m + 1], "hidden": view.applied["hidden"][m : m + 1]}
        each.append(total(method([view.with_(masks=view.masks[m : m + 1], applied=applied)], batch)))
    torch.testing.assert_close(total(method([view], batch)), torch.stack(each).mean(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_of_varying_lengths_equals_one_by_one(name):
    lengths = [64, 37, 20]
    method, view, batch = one_step(name, "series", **{"method.masks": 2, "batch_size": 3})
    method.eval()
    backbone, need = method.student.backbone, method.needed({"masks": 2})
    mask = replace(need.mask, kind="random", size=1, ratio=(0.4, 0.4), context=need.mask.context and (1.0, 1.0))
    plain = View(view.x, lengths=torch.tensor(lengths))
    (whole,) = Masked(lambda b, d: [plain], mask, backbone.grid)(batch, batch.draws(0, "train"))
    alone = []
    for i, length in enumerate(lengths):
        inside = int(whole.applied["tokens"][i])
        applied = {k: torch.stack([row[row < inside] for row in whole.applied[k][:, i]])[:, None] for k in ("keep", "hidden")}
        applied["tokens"] = whole.applied["tokens"][i : i + 1]
        one = View(view.x[i : i + 1, :, :length], lengths=torch.tensor([length]), masks=whole.masks[:, i : i + 1, :inside],
                   applied=applied)
        alone.append(total(method([one], batch)))
    torch.testing.assert_close(total(method([whole], batch)), torch.stack(alone).mean(), rtol=1e-9, atol=1e-11)


def _encoded(method, view):
    if hasattr(method, "mask_token"):
        return encode_masked(method.student.backbone, view, method.mask_token).pooled
    return encode_visible(method.student.backbone, view).pooled


def test_what_is_hidden_cannot_be_seen():
    for name in METHODS:
        method, view, batch = one_step(name, "image")
        hidden = view.masks.all(0) if name != "jepa" else ~torch.zeros_like(view.masks[0]).scatter(1, view.applied["keep"][0], True)
        pixels = hidden.view(8, 1, 3, 3).repeat_interleave(4, 2).repeat_interleave(4, 3)
        other = view.with_(x=torch.where(pixels, torch.randn_like(view.x), view.x))
        assert hidden.any() and not torch.equal(other.x, view.x)
        a, b = (_encoded(method, v) for v in (view, other))
        assert torch.equal(a, b), name


def test_a_mask_token_stands_at_its_position_and_hides_the_value():
    facts = Facts("table", 8, (3,), columns=(Column("a", "numeric"), Column("b", "numeric"), Column("c", "categorical", ("x", "y"))))
    for backbone, x in ((build_backbone("table_transformer", facts, width=16, depth=1, heads=2), torch.randn(4, 3)),
                        (build_backbone("vit_tiny", Facts("series", 8, (2, 12)), patch=4, width=16, depth=1, heads=2),
                         torch.randn(4, 2, 12))):
        assert "mask_tokens" in backbone.abilities
        masked = torch.tensor([[False, True, False]] * 4)
        tokens = backbone(x, masked=masked, mask_token=torch.zeros(16)).tokens
        other = x.clone()
        other[:, 1 : 2] if x.ndim == 2 else other[..., 4:8].zero_()
        assert torch.equal(tokens, backbone(other, masked=masked, mask_token=torch.zeros(16)).tokens)
        assert not torch.allclose(tokens, backbone(x, masked=~masked, mask_token=torch.zeros(16)).tokens)


def test_teachers_follow_at_a_rising_rate():
    for name, first, last in (("data2vec", 0.9998, 0.9998), ("data2vec2", 0.9998, 0.99999), ("jepa", 0.996, 1.0)):
        schedule = find("method", name)(build_backbone("vit_tiny", Facts("series", 8, (2, 16)), width=16, depth=1, heads=2),
                                        **({"facts": Facts("series", 8, (2, 16))} if name != "data2vec" else {})).teacher.momentum
        assert schedule(Clock(0, 100)) == pytest.approx(first) and schedule(Clock(50, 100)) == pytest.approx((first + last) / 2)


def test_ffn_outputs_leave_no_hook_behind():
    backbone = build_backbone("vit_tiny", Facts("series", 8, (2, 16)), width=16, depth=3, heads=2)
    with pytest.raises(ZeroDivisionError), ffn_outputs(backbone, 2) as found:
        backbone(torch.randn(2, 2, 16))
        assert len(found) == 2
        raise ZeroDivisionError
    backbone(torch.randn(2, 2, 16))
    assert len(found) == 2


@pytest.mark.parametrize(("name", "network", "options"), [("tera", "dilated", {}), ("simmim", "dilated", {}),
                                                          ("mp3", "mamba", {"positions": "learned"}), ("data2vec", "mamba", {})])
def test_a_backbone_that_will_not_do_is_refused_when_built(name, network, options):
    facts = Facts("series", 8, (2, 16))
    with pytest.raises(NotApplicable, match="is not known, so|use a Transformer"):
        find("method", name).build(build_backbone(network, facts, **options), facts)


# ---- learning -------------------------------------------------------------------------------------------------------------------


class _Strangers(MAE):
    """The broken objective: what is to be predicted is another item's."""

    name = "strangers"

    def targets(self, view):
        return super().targets(view).roll(1, 0)


def test_it_learns_on_images_where_the_broken_objective_does_not():
    reference, test = source_of("image", 512), source_of("image", 256, seed=1)
    scores = []
    for method in (MAE, _Strangers):
        plan = draft(method, "image", reference, steps=200, lr=8e-3, **{"method.width": 32, "views.scale": (1.0, 1.0), "views.flip": 0.0})
        scores.append(score(plan, train(plan, reference, stop_on_collapse=False)[0], reference, test))
    start = score(plan, plan.build_method(), reference, test, estimate=True)
    assert scores[0] >= start + 0.05 and scores[0] >= scores[1] + 0.05, (scores, start)


@pytest.mark.parametrize(("options", "said"), [
    ({"method.width": 65}, "width 65 cannot have 4 heads"), ({"method.heads": 0}, "cannot have 0 heads"),
    ({"method.masked": None}, "masked=none does not fit: expected a number"), ({"backbone.patch": 1000}, "patch=1000 is longer than items"),
    ({"backbone.patch": 64}, "single token, of which nothing can be hidden")])
def test_options_that_cannot_be_are_a_sentence(options, said):
    with pytest.raises(OptionError, match=said):
        plan = draft(MAE, "series", source := source_of("series", 64), **options)
        plan.build_method()
        plan.stream(source)
