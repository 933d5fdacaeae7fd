"""Frame projections: the transforms' identities, the loss by hand, the kept encoder on disk, and learning without augmentation."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import selftaught
from selftaught.contracts import Batch, Facts, NotApplicable, OptionError, View, find
from selftaught.methods import FrameProjections
from selftaught.networks import Frames, build_backbone
from selftaught.networks.frames import GaborFrame, fourier, fourier_inverse
from selftaught.protocols.baselines import random_encoder
from selftaught.sources import open_source
from selftaught.testing import draft, score, source_of, train

FACTS = Facts("series", 40, (2, 24))
SMALL = {"widths": (4, 6)}


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- transforms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [9, 10])
def test_fourier_is_the_real_orthonormal_basis(double, steps):
    rows = []
    for k in range(steps // 2 + 1):
        size = math.sqrt((1 if k == 0 or 2 * k == steps else 2) / steps)
        rows.append([[size * math.cos(2 * math.pi * k * t / steps) for t in range(steps)],
                     [-size * math.sin(2 * math.pi * k * t / steps) for t in range(steps)]])
    basis = torch.tensor(rows)  # [K, 2, T]
    x = noise(3, 2, steps)
    torch.testing.assert_close(fourier(x), torch.einsum("bct,kpt->bcpk", x, basis))
    torch.testing.assert_close((fourier(x[:1]) * fourier(x[1:2])).sum(), (x[:1] * x[1:2]).sum())  # angles as well as lengths
    torch.testing.assert_close(fourier_inverse(fourier(x), steps), x)


@pytest.mark.parametrize(("steps", "bands"), [(25, 16), (64, 8), (150, 2)])
def test_the_gabor_frame_is_tight(double, steps, bands):
    frame, x = GaborFrame(steps, bands), noise(3, 2, steps)
    found = frame(x)
    assert found.shape == (3, 2, bands, steps) and found.is_complex()
    torch.testing.assert_close(found.abs().square().sum((2, 3)), x.square().sum(2))  # Parseval
    torch.testing.assert_close(frame.inverse(found), x)
    atoms = torch.view_as_real(frame(torch.eye(steps)[:, None])).flatten(1)  # [T, bands · T · 2]: the analysis operator
    bounds = torch.linalg.eigvalsh(atoms @ atoms.T)
    torch.testing.assert_close(bounds, torch.ones(steps))  # both frame bounds are one
    torch.testing.assert_close(frame(x.roll(5, 2)), found.roll(5, 3))  # it moves with time


def test_bands_see_their_own_frequency(double):
    frame, t = GaborFrame(128, 8), torch.arange(128) / 128
    waves = torch.stack([torch.cos(2 * math.pi * k * t) for k in (0, 1, 8, 64)])[:, None]
    energy = frame(waves).abs().square().sum((1, 3))
    assert energy.argmax(1).tolist() == [0, 1, 4, 7]  # the mean, then centres 1, 2, 4, … 64


def test_what_cannot_be_is_said():
    with pytest.raises(OptionError, match="2 bands"):
        GaborFrame(64, 1)
    with pytest.raises(OptionError, match="mapped"):
        build_backbone("frames", FACTS, joint="both", options=SMALL)
    for facts in (Facts("image", 40, (3, 8, 8)), Facts("table", 40, (5,))):
        with pytest.raises(NotApplicable, match=f"{facts.modality} item"):
            FrameProjections.build(nn.Flatten(), facts)


# ---- the method --------------------------------------------------------------------------------------------------------


def build(dtype=torch.float64, **options):
    torch.manual_seed(0)
    return FrameProjections.build(build_backbone("convnet", FACTS, **SMALL), FACTS, width=5, bands=6, **options).to(dtype).train()


def batch_of(n=8, dtype=torch.float64):
    place = torch.arange(n)
    return View(noise(n, *FACTS.shape).to(dtype), role="clean"), Batch({}, place, place, torch.zeros_like(place))


def cross_entropies(a, b, temperature):
    """Mean over all 2N rows of −log softmax of the partner among all others, by loops."""
    rows = [z / z.norm() for z in [*a, *b]]
    n, total = len(a), 0.0
    for i, row in enumerate(rows):
        scores = [float(row @ other) / temperature for other in rows]
        total += math.log(sum(math.exp(s) for j, s in enumerate(scores) if j != i)) - scores[(i + n) % (2 * n)]
    return total / (2 * n)


def test_the_loss_is_the_formula():
    method, (view, batch) = build(), batch_of()
    terms = method([view], batch)
    with torch.no_grad():
        spaces = method.student.backbone
        h = spaces.spaces(view.x)
        z = [part(x) for part, x in zip(method.student.head.parts, h)]
        contrast = sum(cross_entropies(a, b, 0.15) for a, b in ((z[0], z[1]), (z[0], z[2]), (z[1], z[2])))
        mapping = sum(float((m(h[0]) - t).abs().mean()) for m, t in zip(spaces.mappers, h[1:]))
    assert float(terms.named["contrast"]) == pytest.approx(contrast) and float(terms.named["mapping"]) == pytest.approx(mapping)
    assert float(terms.total.detach()) == pytest.approx(contrast + mapping)


def test_the_mappers_pull_at_no_encoder():
    method, (view, batch) = build(), batch_of()
    spaces = method.student.backbone
    h = spaces.spaces(view.x)
    sum(F.l1_loss(m, t.detach()) for m, t in zip(spaces.mapped(h[0].detach()), h[1:])).backward()
    reached = {n.split(".")[0] for n, p in spaces.named_parameters() if p.grad is not None}
    assert reached == {"mappers"}
    method.zero_grad(set_to_none=True)
    method([view], batch).total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())


def test_the_joint_embedding():
    view, _ = batch_of()
    mapped, everything = build().kept().eval(), build(joint="all").kept().eval()
    h = mapped.spaces(view.x)
    torch.testing.assert_close(mapped(view.x).pooled, torch.cat([h[0], *mapped.mapped(h[0])], 1))
    torch.testing.assert_close(everything(view.x).pooled, torch.cat(everything.spaces(view.x), 1))
    assert mapped.width == everything.width == mapped(view.x).pooled.shape[1] == 18


# ---- kept, on disk -----------------------------------------------------------------------------------------------------


OPTIONS = {"steps": 4, "batch_size": 16, "progress": False, "precision": "32-true"}


@pytest.fixture(scope="module")
def waves():
    return np.random.default_rng(0).normal(size=(64, 2, 24)).astype(np.float32)


@pytest.mark.parametrize("joint", ["mapped", "all"])
def test_the_kept_encoder_round_trips_and_has_a_twin(waves, tmp_path, joint):
    run = selftaught.pretrain(waves, "frames", layout="NCT", out=tmp_path / "run", **OPTIONS,
                              **{"backbone.widths": (8, 16), "method.joint": joint})
    expected = run.encoder.embed(waves)
    assert expected.shape == (64, 48) and isinstance(run.encoder.backbone, Frames) and run.encoder.backbone_name == "frames"
    np.testing.assert_array_equal(selftaught.load(run.encoder.save(tmp_path / "copy")).embed(waves), expected)
    twin = random_encoder(run.encoder, open_source(waves, layout="NCT"))
    assert isinstance(twin.backbone, Frames) and twin.embed(waves).shape == (64, 48)
    again = selftaught.pretrain(waves, "simclr", layout="NCT", init=run, out=tmp_path / "on", **OPTIONS)  # goes on as SimCLR's backbone
    assert isinstance(again.encoder.backbone, Frames)


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv1d(2, 6, 3, padding=1)

    def forward(self, x):
        return self.convolution(x).relu().mean(2)


def test_a_module_of_ones_own(waves, tmp_path):
    run = selftaught.pretrain(waves, "frames", layout="NCT", backbone=Own(), out=tmp_path / "run", **OPTIONS)
    expected = run.encoder.embed(waves)
    assert expected.shape == (64, 18) and run.encoder.backbone_name == "custom"
    np.testing.assert_array_equal(selftaught.load(run.folder, backbone=Own()).embed(waves), expected)
    with pytest.raises(OptionError, match="a module of your own"):
        selftaught.load(run.folder)


def test_series_of_varying_lengths(tmp_path):
    rng = np.random.default_rng(0)
    items = [rng.normal(size=(2, int(n))).astype(np.float32) for n in rng.integers(12, 24, 40)]
    run = selftaught.pretrain(items, "frames", layout="NCT", out=tmp_path / "run", **OPTIONS, **{"backbone.widths": (8, 16)})
    np.testing.assert_allclose(run.encoder.embed(items, batch_size=7), run.encoder.embed(items), rtol=1e-4, atol=1e-5)


# ---- learning ----------------------------------------------------------------------------------------------------------


class Unpaired(FrameProjections):
    """The broken objective: the three representations of a row belong to different items."""

    name = "unpaired_frames"

    def paired(self, spaces):
        return [spaces[0], *(h[torch.randperm(len(h))] for h in spaces[1:])]


def test_it_learns_without_augmentation_and_not_without_pairs():
    reference, test = source_of("series", 768), source_of("series", 384, seed=1)
    found = {}
    for method in (FrameProjections, Unpaired):
        plan = draft(method, "series", reference, steps=60, lr=8e-3)
        found[method] = score(plan, train(plan, reference, stop_on_collapse=False)[0], reference, test)
    start = score(plan, plan.build_method(), reference, test, estimate=True)
    assert found[FrameProjections] > max(start, found[Unpaired]) + 0.1


def test_it_is_registered_with_the_papers_recipe():
    method = find("method", "frames")
    assert method is FrameProjections and method.defaults.optimizer == "adamw" and method.defaults.batch_size == 1024
    assert set(method.small) <= {*method.options(), *(f"training.{k}" for k in vars(method.defaults))}
