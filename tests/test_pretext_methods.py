"""Pretext methods: the papers' formulas by naive loops in float64, options and needs, and a learning claim that a broken target fails."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from selftaught.contracts import (
    TRANSFORM_WIDTH,
    Batch,
    Facts,
    Features,
    OptionError,
    Pair,
    Patches,
    Terms,
    Training,
    Transformed,
    View,
    find,
)
from selftaught.methods import LabelAugmentation, LoRot, Rotation
from selftaught.methods.jigsaw import distant_permutations
from selftaught.methods.label_augmentation import aggregated
from selftaught.networks import BatchNorm, convert_batch_norm
from selftaught.objectives import vicreg_terms
from selftaught.objectives.pretext import deviation_hinge, focal_binary, shifted_pairs
from selftaught.testing import draft, score, source_of, train

N, CLASSES = 12, 3
TINY = {
    "rotation": {},
    "context": {"hidden": 8, "turn": 0.5},
    "jigsaw": {"permutations": 6, "tile": 4, "hidden": 8},
    "lorot": {"variant": "whole"},
    "label_augmentation": {"distil": True},
    "relational": {"views": 3, "hidden": 8},
    "sie": {"width": 8, "hidden": 8},
}


class TinyNet(nn.Module):
    """[B, 1, S] series of any length → 6 features."""

    width = 6

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv1d(1, 6, 3, padding=1), BatchNorm(6)
        self.out = nn.Linear(6, 6)

    def forward(self, x, *, lengths=None, keep=None, layers=()):
        return Features(self.out(torch.tanh(self.norm(self.convolution(x))).amax(2)))


def build(name, dtype=torch.float64, shape=(1, 9), classes=CLASSES, **options):
    torch.manual_seed(0)
    facts = Facts("series", 40, shape, classes=classes)
    method = find("method", name).build(TinyNet(), facts, **{**TINY[name], **options})
    return convert_batch_norm(method.to(dtype)).train()


def views_for(method, options=None, dtype=torch.float64, seed=0):
    need = method.needed({**TINY[method.name], **(options or {})})
    g = torch.Generator().manual_seed(seed)
    draw = lambda steps=9: torch.randn(N, 1, steps, generator=g, dtype=dtype)  # noqa: E731
    told = lambda: torch.rand(N, TRANSFORM_WIDTH, generator=g, dtype=dtype)  # noqa: E731
    number = lambda high: torch.randint(high, (N,), generator=g)  # noqa: E731
    if isinstance(need, Transformed):
        classes = [torch.full((N,), k) for k in range(need.classes)] if need.every else [number(need.classes)]
        return [View(draw(), applied={"class": k}) for k in classes]
    if isinstance(need, Patches):
        turn = number(4)
        return [View(draw(4), applied={"turn": turn}, role="local") for _ in range(need.side)]
    return [View(draw(), applied={"transform": told()} if need.known else {}) for _ in range(need.count)]


def batch_of(y=None, rows=slice(None)):
    order = torch.arange(N)
    labels = order % CLASSES if y is None else y
    return Batch({"x": torch.zeros(N, 1, 9)[rows]}, order[rows], order[rows], torch.zeros(N).long()[rows], labels[rows])


def total(loss):
    return loss.total if isinstance(loss, Terms) else loss


def log_softmax(row):
    top = max(row)
    return [v - top - math.log(sum(math.exp(u - top) for u in row)) for v in row]


def cross_entropy(logits, targets):
    return float(np.mean([-log_softmax(row)[t] for row, t in zip(logits.tolist(), targets.tolist()) if t >= 0]))


# ---- all --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TINY)
def test_the_loss_is_a_scalar_and_reaches_every_parameter(name):
    method = build(name)
    loss = total(method(views_for(method), batch_of()))
    assert loss.shape == () and loss.isfinite()
    loss.backward()
    assert not [n for n, p in method.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert sum(p.grad.abs().sum() for n, p in method.named_parameters() if n.startswith("student.backbone")) > 0


@pytest.mark.parametrize("name", TINY)
def test_options_and_recipe(name):
    method = find("method", name)
    assert method.name == name and set(TINY[name]) <= set(method.options())
    assert set(method.small) <= {*method.options(), *(f"training.{f}" for f in vars(Training()))}
    assert method.needed(method.options()) == method.needs  # the defaults are what the paper needs


@pytest.mark.parametrize("name", TINY)
def test_it_learns_the_batch(name):
    method = build(name, torch.float32)
    views, batch = views_for(method, dtype=torch.float32), batch_of()
    optimiser = torch.optim.Adam(method.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        loss = total(method(views, batch))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.98 * losses[0]


# ---- rotation -----------------------------------------------------------------------------------------------------------------


def test_rotation_is_the_papers_formula_with_joint_statistics():
    method = build("rotation")
    views = views_for(method)
    logits = method.student(torch.cat([v.x for v in views]))  # one batch of all turns
    expected = cross_entropy(logits, torch.cat([v.applied["class"] for v in views]))
    assert method.loss(views, batch_of()).item() == pytest.approx(expected, rel=1e-9)


class Untold(Rotation):
    """Rotation whose answers belong to other rows, anew at every step."""

    name = "untold"

    def loss(self, views, batch):
        order = batch.draws(1, "untold").bits("order", len(views)).flatten().argsort()
        told = torch.stack([v.applied["class"] for v in views], 1).flatten()[order].view(-1, len(views))
        return super().loss([v.with_(applied={"class": told[:, k]}) for k, v in enumerate(views)], batch)


def test_rotation_learns_what_an_item_is_and_a_broken_one_does_not():
    reference, test = source_of("image", 512), source_of("image", 256, seed=1)
    found = {}
    for cls in (Rotation, Untold):
        plan = draft(cls, "image", reference, steps=90, lr=8e-3, stop_on_collapse=False)
        start = score(plan, plan.build_method(), reference, test, estimate=True)
        found[cls] = score(plan, train(plan, reference)[0], reference, test)
    assert found[Rotation] > start + 0.05 and found[Rotation] > found[Untold] + 0.05


# ---- context ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape, side, classes", [((1, 9), 3, 2), ((1, 9), 5, 4), ((3, 32, 32), 3, 8), ((1, 8, 8, 8), 3, 26)])
def test_as_many_classes_as_neighbours(shape, side, classes):
    assert build("context", shape=shape, side=side).classes == classes


def test_context_is_the_papers_formula():
    method = build("context", side=5)
    views = views_for(method, {"side": 5})
    features = method.student(torch.cat([v.x for v in views])).split(N)
    pairs = [(features[2], features[k]) for k in (0, 1, 3, 4)]
    logits = method.classifier(torch.cat([torch.cat(pair, 1) for pair in pairs]))
    places = torch.tensor([k for k in range(4) for _ in range(N)])
    turns = method.turn(torch.cat(features))
    terms = method.loss(views, batch_of())
    assert terms.named["place"].item() == pytest.approx(cross_entropy(logits, places), rel=1e-9)
    assert terms.named["turn"].item() == pytest.approx(cross_entropy(turns, views[0].applied["turn"].repeat(5)), rel=1e-9)
    assert terms.total.item() == pytest.approx(terms.named["place"].item() + terms.named["turn"].item())


def test_the_switches_of_context_reach_the_views():
    cls = find("method", "context")
    assert cls.needed({"hidden": 9}) == Patches() and build("context", turn=0.0).turn is None
    switched = {"side": 5, "jitter": 0.1, "yoked": True, "blur_chroma": 0.5, "aperture": 0.25, "turn": 1.0}
    assert cls.needed({**switched, "hidden": 9}) == Patches(**switched)
    for side in (1, 2, 4):
        with pytest.raises(OptionError, match="middle"):
            build("context", side=side)


# ---- jigsaw -------------------------------------------------------------------------------------------------------------------


def naive_distant(tiles, count):
    chosen = [tuple(range(tiles))]
    while len(chosen) < count:
        rest = [p for p in itertools.permutations(range(tiles)) if p not in chosen]
        chosen.append(max(rest, key=lambda p: sum(a != b for c in chosen for a, b in zip(p, c))))
    return np.array(chosen)


@pytest.mark.parametrize("tiles, count", [(3, 6), (4, 24), (5, 30)])
def test_permutations_are_chosen_as_the_naive_loop_chooses_them(tiles, count):
    assert np.array_equal(distant_permutations(tiles, count), naive_distant(tiles, count))


def test_permutations_of_nine_lie_far_apart():
    orders = distant_permutations(9, 64)
    assert orders.shape == (64, 9) and (np.sort(orders, 1) == np.arange(9)).all()
    distance = (orders[:, None] != orders[None]).sum(2)[np.triu_indices(64, 1)]
    assert distance.min() >= 2 and distance.mean() > 8.05  # 8 between random ones


def test_jigsaw_shuffles_the_tiles_and_asks_for_the_order():
    method, batch = build("jigsaw"), batch_of()
    views = views_for(method)
    tiles = method.student(torch.cat([v.x for v in views])).split(N)
    number = batch.draws(0, "jigsaw").integers("order", 6)
    assert len(set(number.tolist())) > 2
    rows = [torch.cat([tiles[k][i] for k in method.orders[number[i]]]) for i in range(N)]
    logits = method.classifier(torch.stack(rows))
    assert method.loss(views, batch).item() == pytest.approx(cross_entropy(logits, number), rel=1e-9)


def test_the_order_of_an_item_depends_on_nothing_but_epoch_and_slot():
    whole = batch_of().draws(0, "jigsaw").integers("order", 6)
    torch.manual_seed(99)
    halves = [batch_of(rows=rows).draws(0, "jigsaw").integers("order", 6) for rows in (slice(0, 6), slice(6, 12))]
    assert torch.equal(whole, torch.cat(halves))


def test_puzzles_of_too_many_or_too_few_tiles_are_refused_and_few_orders_are_all():
    assert len(build("jigsaw", permutations=1000).orders) == 6
    with pytest.raises(OptionError, match="16 tiles"):
        build("jigsaw", shape=(3, 32, 32), side=4)
    with pytest.raises(OptionError, match="1 tiles"):
        build("jigsaw", side=1)


# ---- localisable rotation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant, kind, classes", [("E", "quadrant_turn", 16), ("I", "patch_turn", 4), ("whole", "turn", 4)])
def test_variants_of_lorot(variant, kind, classes):
    need = LoRot.needed({"variant": variant})
    assert need == Transformed(kind=kind, every=False) and need.classes == classes
    assert build("lorot", variant=variant).turn.out_features == classes
    with pytest.raises(OptionError, match="variant"):
        LoRot.needed({"variant": "X"})


@pytest.mark.parametrize("weight", [0.0, 0.1, 2.0])
def test_lorot_adds_the_turn_to_the_class(weight):
    method, batch = build("lorot", weight=weight), batch_of()
    batch.y[::3] = -1
    views = views_for(method)
    features = method.student.backbone(views[0].x).pooled
    label = cross_entropy(method.student.head(features), batch.y)
    turn = cross_entropy(method.turn(features), views[0].applied["class"])
    assert method.loss(views, batch).total.item() == pytest.approx(label + weight * turn, rel=1e-9)


@pytest.mark.parametrize("name", ["lorot", "label_augmentation"])
def test_labels_that_are_numbers_are_refused(name):
    assert find("method", name).labelled
    with pytest.raises(OptionError, match="number"):
        build(name, classes=None)


# ---- label augmentation ----------------------------------------------------------------------------------------------------------


def test_label_augmentation_is_the_papers_formula():
    method, batch = build("label_augmentation", distil=False), batch_of()
    batch.y[1::4] = -1
    views = views_for(method)
    logits = method.student(torch.cat([v.x for v in views])).split(N)
    expected = 0.0
    for j, z in enumerate(logits):  # class y under transformation j is unit 4·y + j
        expected += cross_entropy(z, torch.tensor([4 * y + j if y >= 0 else -1 for y in batch.y.tolist()])) / 4
    assert method.loss(views, batch).total.item() == pytest.approx(expected, rel=1e-9)


def test_aggregated_inference_averages_each_class_over_its_own_transformations():
    logits = [torch.randn(5, CLASSES * 4, dtype=torch.float64) for _ in range(4)]
    expected = [[sum(logits[j][i, 4 * y + j].item() for j in range(4)) / 4 for y in range(CLASSES)] for i in range(5)]
    torch.testing.assert_close(aggregated(logits), torch.tensor(expected, dtype=torch.float64))


def test_self_distillation_adds_divergence_and_cross_entropy_of_the_single_head():
    method, batch = build("label_augmentation", beta=0.7), batch_of()
    views = views_for(method)
    features = method.student.backbone(torch.cat([v.x for v in views])).pooled.split(N)
    logits = [method.student.head(f) for f in features]
    alone = method.single(features[0])
    divergence = 0.0
    for p, q in zip(aggregated(logits).tolist(), alone.tolist()):
        divergence += sum(math.exp(a) * (a - b) for a, b in zip(log_softmax(p), log_softmax(q))) / N
    terms = method.loss(views, batch)
    assert terms.named["distilled"].item() == pytest.approx(divergence, rel=1e-8)
    expected = terms.named["joint"].item() + divergence + 0.7 * cross_entropy(alone, batch.y)
    assert terms.total.item() == pytest.approx(expected, rel=1e-9)
    terms.total.backward()  # nothing flows back through what is distilled: only the joint loss reaches the joint head
    got = method.student.head.weight.grad.clone()
    without = build("label_augmentation", distil=False)
    without.loss(views, batch).total.backward()
    torch.testing.assert_close(got, without.student.head.weight.grad)


def test_kinds_of_label_augmentation():
    assert LabelAugmentation.needed({"kind": "channels"}) == Transformed(kind="channels")
    assert build("label_augmentation", kind="channels").student.head.out_features == 6 * CLASSES
    with pytest.raises(OptionError, match="kind"):
        LabelAugmentation.needed({"kind": "patch_turn"})


# ---- relational reasoning -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("views, rows", [(2, 5), (4, 3), (3, 2)])
def test_pairs_are_those_of_the_authors_loop(views, rows):
    z = [torch.randn(rows, 2, dtype=torch.float64) for _ in range(views)]
    pairs, targets, shift = [], [], 1
    for i in range(views):
        for j in range(i + 1, views):
            pairs += [[*z[i][n], *z[j][n]] for n in range(rows)] + [[*z[i][n], *z[j][(n - shift) % rows]] for n in range(rows)]
            targets += [1.0] * rows + [0.0] * rows
            shift += 1
            if shift >= rows:
                shift = 1
    found, told = shifted_pairs(z)
    torch.testing.assert_close(found, torch.tensor(pairs, dtype=torch.float64))
    assert told.tolist() == targets


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_focal_loss_is_the_naive_loop(gamma):
    logits = 3 * torch.randn(40, dtype=torch.float64)
    targets = (torch.arange(40) % 2).double()
    expected = 0.0
    for z, t in zip(logits.tolist(), targets.tolist()):
        p = 1 / (1 + math.exp(-z))
        right = p if t else 1 - p
        expected -= 0.5 * (1 - right) ** gamma * math.log(right) / 40
    assert focal_binary(logits, targets, gamma=gamma).item() == pytest.approx(expected, rel=1e-10)
    if not gamma:
        assert expected == pytest.approx(F.binary_cross_entropy_with_logits(logits, targets).item() / 2)


def test_relational_wants_as_many_views_as_asked():
    cls = find("method", "relational")
    assert cls.needed({}) == Pair(count=32) and cls.needed({"views": 5}) == Pair(count=5)
    with pytest.raises(OptionError, match="no pair"):
        build("relational", views=1)


# ---- split invariant and equivariant --------------------------------------------------------------------------------------------------


def test_the_predictor_is_a_linear_map_that_a_linear_hypernetwork_makes():
    predictor, width = build("sie").predictor, 4
    z, g = torch.randn(5, width, dtype=torch.float64), torch.randn(5, 1 + 2 * TRANSFORM_WIDTH, dtype=torch.float64)
    maps = predictor.maps.weight.view(1 + 2 * TRANSFORM_WIDTH, width, width)
    expected = torch.stack([sum(g[i, k] * maps[k] for k in range(len(maps))) @ z[i] for i in range(5)])
    torch.testing.assert_close(predictor(z, g), expected)
    assert torch.equal(predictor(z, 0 * g), 0 * z)  # without g there is no map


@pytest.mark.parametrize("part", [0.0, 1.0])
def test_sie_needs_features_of_both_kinds(part):
    with pytest.raises(OptionError, match="equivariant=.* features to move"):
        build("sie", equivariant=part)


def test_sie_is_the_papers_formula():
    method = build("sie", invariance=2.0, equivariance=3.0, variance=5.0, covariance=7.0)
    views = views_for(method)
    a, b = (method.student(v) for v in views)  # statistics of their own
    halves = method.student.backbone(views[0].x).pooled.split(3, 1)
    torch.testing.assert_close(a, torch.cat([method.student.head.invariant(halves[0]), method.student.head.equivariant(halves[1])], 1))
    g = torch.cat([torch.ones(N, 1), views[0].applied["transform"], views[1].applied["transform"]], 1)
    predicted = method.predictor(a[:, 4:], g)
    hinge = lambda z: np.mean([max(0, 1 - math.sqrt(np.var(c, ddof=1) + 1e-4)) for c in z.detach().numpy().T])  # noqa: E731
    covariance = lambda z: np.cov(z.detach().numpy().T)  # noqa: E731
    off = lambda c: (np.square(c).sum() - np.square(np.diag(c)).sum()) / len(c)  # noqa: E731
    expected = {"invariance": ((a - b)[:, :4] ** 2).mean().item(), "equivariance": ((predicted - b[:, 4:]) ** 2).mean().item(),
                "variance": (hinge(a) + hinge(b) + hinge(predicted)) / 2, "covariance": off(covariance(a)) + off(covariance(b))}
    terms = method.loss(views, batch_of())
    for name, value in expected.items():
        assert terms.named[name].item() == pytest.approx(value, rel=1e-8)
    assert terms.total.item() == pytest.approx(sum(w * expected[k] for k, w in zip(expected, (2, 3, 5, 7))), rel=1e-8)


def test_the_transformation_told_matters_and_the_hinge_is_vicregs():
    method = build("sie")
    views = views_for(method)
    other = [v.with_(applied={"transform": v.applied["transform"].roll(1, 0)}) for v in views]
    told, wrong = (method.loss(v, batch_of()).named for v in (views, other))
    assert torch.allclose(told["invariance"], wrong["invariance"]) and not torch.allclose(told["equivariance"], wrong["equivariance"])
    z = torch.randn(9, 4, dtype=torch.float64)
    torch.testing.assert_close(deviation_hinge(z), vicreg_terms(z, z)[1])
