"""SimSiam, DirectPred, Barlow Twins, W-MSE, TiCo and LeJEPA on tiny networks: the papers' formulas, and what breaks."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from selftaught import methods  # noqa: F401  (enters the methods in the registry)
from selftaught import objectives as ob
from selftaught.contracts import Batch, Clock, Features, MultiCrop, OptionError, Pair, Terms, Training, View, find
from selftaught.measures import rank_me, spread
from selftaught.methods.directpred import BALANCES, direct_predictor
from selftaught.networks import BatchNorm, Covariance, convert_batch_norm

N = 12
TINY = {
    "simsiam": {"width": 6, "hidden": 8, "bottleneck": 4},
    "directpred": {"width": 6, "hidden": 8},
    "barlow_twins": {"width": 6, "hidden": 8},
    "w_mse": {"width": 3, "hidden": 8, "sub_batch": 6},
    "tico": {"width": 6, "hidden": 8},
    "lejepa": {"width": 6, "hidden": 8, "directions": 16},
}


class TinyNet(nn.Module):
    """[B, 1, S] → 5 features."""

    width = 5

    def __init__(self):
        super().__init__()
        self.convolution, self.norm, self.out = nn.Conv1d(1, 5, 3, padding=1), BatchNorm(5), nn.Linear(5, 5)

    def forward(self, x, *, lengths=None, keep=None, layers=()):
        return Features(self.out(torch.tanh(self.norm(self.convolution(x))).amax(2)))


def build(name, dtype=torch.float64, **options):
    torch.manual_seed(0)
    method = find("method", name)(TinyNet(), **{**TINY[name], **options})
    return convert_batch_norm(method.to(dtype)).train()


def views_for(method, seed=0, noise=1.0, count=2, n=N):
    """Views of n items: the item and noise; small ones are shorter."""
    g = torch.Generator().manual_seed(seed)
    items = torch.randn(n, 1, 8, generator=torch.Generator().manual_seed(99), dtype=torch.float64)

    def draw(steps, role):
        return View(items[..., :steps] + noise * torch.randn(n, 1, steps, generator=g, dtype=torch.float64), role=role)

    if isinstance(method.needs, MultiCrop):
        return [draw(8, "global") for _ in range(2)] + [draw(4, "local") for _ in range(3)]
    return [draw(8, "global") for _ in range(count)]


def batch_of(n=N):
    order = torch.arange(n)
    return Batch({"x": torch.zeros(n, 1, 8)}, index=order, slot=order, epoch=torch.zeros(n).long())


def total(loss):
    return loss.total if isinstance(loss, Terms) else loss


def train(method, steps, *, lr=0.02, n=N, noise=0.3):
    """Losses of steps as the engine takes them, fresh views each."""
    optimiser = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=lr)
    losses = []
    for step in range(steps):
        method.clock = Clock(step, steps, 0, 1, steps)
        loss = total(method(views_for(method, seed=step, noise=noise, n=n), batch_of(n)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            for memory in method.memories():
                memory.commit(method.clock)
            method.after_step()
        losses.append(float(loss.detach()))
    return losses


def embeddings(method, n=48):
    """The student's embeddings of unseen views of the items."""
    with torch.no_grad():
        return method.student(views_for(method, seed=1234, noise=0.3, n=n)[0])


@pytest.mark.parametrize("name", TINY)
def test_the_loss_reaches_every_trained_parameter_and_falls(name):
    method = build(name)
    loss = total(method(views_for(method), batch_of()))
    assert loss.shape == () and loss.isfinite()
    loss.backward()
    trained = {n: p for n, p in method.named_parameters() if p.requires_grad}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained.values())
    assert sum(p.grad.abs().sum() for n, p in trained.items() if n.startswith("student.backbone")) > 0
    steady = {"beta": 0.0, "momentum": 0.9} if name == "tico" else {}  # else the covariance, and with it the loss, first rises
    losses = train(build(name, **steady), 60, n=24)
    assert sum(losses[-5:]) < sum(losses[:5])


@pytest.mark.parametrize("name", TINY)
def test_options_and_recipe(name):
    method = find("method", name)
    options = method.options()
    assert isinstance(method.defaults, Training) and set(TINY[name]) <= set(options)
    assert set(method.small) <= {*options, *(f"training.{f}" for f in vars(method.defaults))}
    trained = [n for n, p in build(name).named_parameters() if p.requires_grad]
    assert all(any(n.startswith(g + ".") for n in trained) for g in method.defaults.groups)


# ---- SimSiam ----------------------------------------------------------------------------------------------------------------


def test_simsiam_is_half_the_sum_of_both_sides_and_stops_the_gradient():
    method, views = build("simsiam"), views_for(find("method", "simsiam"))
    a, b = (method.student(v) for v in views)  # each view by itself: statistics of its own
    p, q = method.predictor(a), method.predictor(b)
    expected = -(F.cosine_similarity(p, b.detach()).mean() + F.cosine_similarity(q, a.detach()).mean()) / 2
    loss = method.loss(views, batch_of())
    torch.testing.assert_close(loss, expected)
    weight = method.student.backbone.out.weight
    torch.testing.assert_close(*(torch.autograd.grad(v, weight)[0] for v in (loss, expected)))
    assert method.defaults.groups["predictor"].lr_constant and method.defaults.decay_norm_and_bias
    assert method.student.head[-1].weight is None  # BatchNorm without affine parameters on z


class WithGradient(methods.SimSiam):
    """SimSiam whose targets let the gradient through (table 1 of the paper)."""

    def loss(self, views, batch):
        a, b = (self.student(v) for v in views)
        p, q = self.predictor(a), self.predictor(b)
        return -(F.cosine_similarity(p, b).mean() + F.cosine_similarity(q, a).mean()) / 2


class WithoutPredictor(methods.SimSiam):
    """SimSiam with h the identity: its gradient is that of both sides at half the rate (section 4.2)."""

    def loss(self, views, batch):
        a, b = (self.student(v) for v in views)
        return -(F.cosine_similarity(a, b.detach()).mean() + F.cosine_similarity(b, a.detach()).mean()) / 2


@pytest.mark.parametrize("broken", [WithGradient, WithoutPredictor])
def test_simsiam_collapses_without_stopped_gradient_or_predictor(broken):
    """The rank of the embeddings: items stay apart in several dimensions, or fall into one or two."""
    options = {"width": 16, "hidden": 32, "bottleneck": 8}
    whole = build("simsiam", **options)
    torch.manual_seed(0)
    parts = convert_batch_norm(broken(TinyNet(), **options).double()).train()
    train(whole, 150, n=48)
    losses = train(parts, 150, n=48)
    assert rank_me(embeddings(parts)) < 0.7 * rank_me(embeddings(whole)) and losses[-1] < -0.9


# ---- DirectPred -------------------------------------------------------------------------------------------------------------


def test_the_predictor_is_set_from_the_spectrum_of_its_inputs():
    method = build("directpred", rho=0.25)
    assert not method.predictor.weight.requires_grad
    expected = None
    for step in range(3):
        views = views_for(method, seed=step)
        method.clock = Clock(step, 3)
        with torch.no_grad():
            f = torch.cat([method.student(v) for v in views])
            w = method.predictor.weight.clone()
            targets = [method.teacher(v) for v in views]
        moment = sum(torch.outer(row, row) for row in f) / len(f)
        expected = moment if expected is None else 0.25 * expected + 0.75 * moment
        a, b = f.split(N)
        loss = 4 - 2 * F.cosine_similarity(a @ w.T, targets[1]).mean() - 2 * F.cosine_similarity(b @ w.T, targets[0]).mean()
        torch.testing.assert_close(method.loss(views, batch_of()), loss)
        for memory in method.memories():
            memory.commit(method.clock)
        method.after_step()
        torch.testing.assert_close(method.correlation.value, expected)
        s, u = torch.linalg.eigh(expected)
        p = (s / s.max()).clamp(0).sqrt() + 0.01
        torch.testing.assert_close(method.predictor.weight.detach(), u @ p.diag() @ u.T)


def test_balances_and_their_refusals():
    f = torch.diag(torch.tensor([4.0, 1.0, 0.0]))
    found = {b: direct_predictor(f, eps=0.1, balance=b).diagonal().tolist() for b in BALANCES}
    assert found["boost_scale"] == pytest.approx([1.1, 0.6, 0.1])
    assert found["paper"] == pytest.approx([2.4, 1.4, 0.4])  # eq. 18: √s + ε · max s
    assert found["clamp"] == pytest.approx([1, 1, 0]) and found["shrink2mean"] == pytest.approx([17 / 6, 8 / 6, 5 / 6])
    assert direct_predictor(f * float("nan"), eps=0.1, balance="paper").isnan().all()
    with pytest.raises(OptionError, match="boost_scale"):
        build("directpred", balance="bost_scale")
    with pytest.raises(OptionError, match="every=0"):
        build("directpred", every=0)


def test_the_predictor_learns_between_settings_and_the_teacher_is_optional():
    method = build("directpred", every=3, momentum=0.0)
    assert method.teacher is None and method.predictor.weight.requires_grad
    seen = []
    method.after_step = lambda plain=method.after_step: (seen.append(method.predictor.weight.detach().clone()), plain())
    train(method, 4)
    set_to = direct_predictor(method.correlation.value, eps=0.01, balance="boost_scale")  # at step 3
    torch.testing.assert_close(method.predictor.weight.detach(), set_to)
    assert not torch.allclose(seen[1], seen[2])  # steps 1 and 2 were left to the optimiser


# ---- Barlow Twins, W-MSE, TiCo, LeJEPA --------------------------------------------------------------------------------------


def test_barlow_twins_is_its_objective_and_needs_the_off_diagonal():
    method, views = build("barlow_twins"), views_for(find("method", "barlow_twins"))
    a, b = (method.student(v) for v in views)
    torch.testing.assert_close(method.loss(views, batch_of()), 0.024 * ob.barlow_twins(a, b, off_diagonal_weight=0.0051))
    ranks = {}
    for weight in (0.0, 0.1):
        method = build("barlow_twins", off_diagonal_weight=weight, scale=1.0, width=12, hidden=32)
        train(method, 120, n=48)
        z = embeddings(method)
        ranks[weight] = rank_me(z - z.mean(0))
    assert ranks[0.0] < 0.8 * ranks[0.1]  # dimensions repeat each other


def test_w_mse_asks_for_its_positives_and_cuts_the_batch():
    cls = find("method", "w_mse")
    assert cls.needed({}) == Pair(count=2) and cls.needed({"positives": 4}) == Pair(count=4)
    method = build("w_mse", positives=4, iterations=2)
    method.clock = Clock(5, 10)
    views = views_for(method, count=4)
    pooled = [method.student.backbone(v.x).pooled for v in views]  # statistics of their own, the projector's joint
    z = method.student.head(torch.cat(pooled)).view(4, N, 3)
    torch.testing.assert_close(method.loss(views, batch_of()), ob.sliced_whitening_mse(z, sub_batch=6, iterations=2, step=5))
    with pytest.raises(OptionError, match="more than 12 samples"):
        build("w_mse", width=12).loss(views_for(method), batch_of())
    with pytest.raises(OptionError, match="positives=1"):
        build("w_mse", positives=1)


class Unwhitened(methods.WMSE):
    """The same distance of unit vectors, without whitening."""

    def loss(self, views, batch):
        a, b = (self.student(v) for v in views)
        return 2 - 2 * F.cosine_similarity(a, b).mean()


def test_the_same_distance_without_whitening_collapses():
    options = {"width": 8, "hidden": 32, "sub_batch": 24}
    whole = build("w_mse", **options)
    torch.manual_seed(0)
    parts = convert_batch_norm(Unwhitened(TinyNet(), **options).double()).train()
    for method in (whole, parts):
        train(method, 150, n=48)
    assert spread(embeddings(parts)) < 0.1 and spread(embeddings(whole)) > 0.5


def test_tico_is_the_mean_of_both_orders_and_remembers_covariance():
    method, views = build("tico"), views_for(find("method", "tico"))
    with torch.no_grad():
        for p in method.teacher.module.parameters():
            p.mul_(0.9)
        q, k = ([net(v) for v in views] for net in (method.student, method.teacher))
        z = F.normalize(torch.cat(q), dim=1)
    c = method.covariance.value
    expected = (ob.tico(q[0], k[1], c, beta=0.9, rho=8.0) + ob.tico(q[1], k[0], c, beta=0.9, rho=8.0)) / 2
    torch.testing.assert_close(method.loss(views, batch_of()), expected)
    method.covariance.commit(method.clock)
    torch.testing.assert_close(method.covariance.value, 0.1 * z.T @ z / len(z))
    spreads = {}
    for rho in (0.0, 8.0):
        method = build("tico", rho=rho, momentum=0.9, width=8, hidden=32)
        train(method, 150, n=48)
        spreads[rho] = spread(embeddings(method))
    assert spreads[0.0] < 0.5 * spreads[8.0]


def test_lejepa_predicts_the_mean_of_the_large_views_and_collapses_without_sigreg():
    method, views = build("lejepa", sigreg=0.3), views_for(find("method", "lejepa"))
    method.clock = Clock(7, 10)
    z = [e for group in (views[:2], views[2:]) for e in method.student(torch.cat([v.x for v in group])).split(N)]
    lines = ob.random_directions(6, 16, 7, like=z[0])
    centre = (z[0] + z[1]) / 2
    prediction = sum((e - centre).square().mean() for e in z) / 5
    gaussian = sum(ob.sigreg(e, lines) for e in z) / 5
    terms = method.loss(views, batch_of())
    torch.testing.assert_close(terms.total, 0.7 * prediction + 0.3 * gaussian)
    torch.testing.assert_close(terms.named["sigreg"], gaussian.detach())
    deviations = {}
    for weight in (0.0, 0.1):
        method = build("lejepa", sigreg=weight, hidden=32)
        train(method, 100, n=48)
        deviations[weight] = embeddings(method).std(0).mean()
    assert deviations[0.0] < 0.1 < 0.5 < deviations[0.1]


# ---- the memory -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("from_first", [False, True])
def test_covariance_averages_what_was_staged(from_first):
    memory = Covariance(3, 0.75, from_first=from_first)
    rows = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(0))
    memory.commit(Clock())  # nothing staged
    assert not memory.value.any()
    for a, b in (rows[:2], rows[2:]):
        memory.stage(a)
        memory.stage(b[:2])
        memory.commit(Clock())
    first, second = (torch.cat([a, b[:2]]).T @ torch.cat([a, b[:2]]) / 8 for a, b in (rows[:2], rows[2:]))
    start = first if from_first else 0.25 * first
    torch.testing.assert_close(memory.value, 0.75 * start + 0.25 * second)


# ---- the effects of S236 ----------------------------------------------------------------------------------------------------


def test_the_effect_column_recovers_an_additive_table():
    """Unbalanced, as the proof's: the levels add up, so that means and ranges are known; noise enters F and p."""
    from selftaught.systems.s236 import PROOF, effects, table

    worth = {"simclr": 0.0, "byol": 0.01, "swav": 0.02, "vicreg": 0.03, "augmented": 0.2, "none": 0.0, "convnet": 0.1,
             "vit": 0.0}
    raw = {arm.name: {str(s): {"linear": 0.5 + 0.01 * s + sum(worth[w] for w in arm.name.split(", "))} for s in range(3)}
           for arm in PROOF.arms}
    found = {e["factor"]: e for e in effects({"raw": raw})}
    assert [round(found[f]["range"], 9) for f in ("algorithm", "augmentation", "encoder")] == [0.03, 0.2, 0.1]
    levels = found["augmentation"]["levels"]
    assert levels["augmented"] - levels["none"] == pytest.approx(0.2)
    assert found["augmentation"]["share"] > found["encoder"]["share"] > found["algorithm"]["share"] > 0
    lines = table({"raw": raw}).splitlines()
    assert len(lines) == 2 + 10 + 1 + 2 + 3
    assert lines[2].startswith("| simclr | augmented | convnet | 0.810 | 0.800 0.810 0.820 |")
    noise = iter(torch.randn(30, generator=torch.Generator().manual_seed(0)).tolist())
    noisy = {arm: {s: {"linear": v["linear"] + 0.02 * next(noise)} for s, v in seeds.items()} for arm, seeds in raw.items()}
    p = {e["factor"]: e["p"] for e in effects({"raw": noisy})}
    assert p["augmentation"] < 1e-6 and p["encoder"] < 1e-3


def test_no_augmentation_means_equal_views():
    from selftaught.modalities import find_modality
    from selftaught.sources import open_source
    from selftaught.systems.s236 import NONE

    source, modality = open_source("embedded:moved-digits/test"), find_modality("image")
    preprocessing = modality.prepare(source)
    fields, _ = modality.collate(source.take(torch.arange(8).numpy()), preprocessing)
    order = torch.arange(8)
    batch = Batch(fields, index=order, slot=order, epoch=torch.zeros(8).long())
    options = {k.removeprefix("views."): v for k, v in NONE.items()}
    plain, moved = (modality.views(Pair(), preprocessing, **o)(batch, batch.draws(0, "train")) for o in (options, {}))
    assert torch.equal(plain[0].x, plain[1].x) and not torch.allclose(moved[0].x, moved[1].x)
