"""Losses on a graph of relations: equal to the standard ones, against naive loops; the order that brings relations together."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from selftaught.contracts import OptionError
from selftaught.methods.pal import side_by_side
from selftaught.objectives import graph_nt_xent, graph_spectral, graph_vicreg, interplay_loss, nt_xent, relations, vicreg
from selftaught.plan import make_plan
from selftaught.testing import source_of

WEIGHTS = {"invariance": 25.0, "variance": 25.0, "covariance": 1.0}


def pair(n=12, d=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, d, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2)]


def test_with_augmentations_alone_it_is_the_standard_loss():
    """Value and gradient, to rounding: G holds nothing but the two views of each item."""
    a, b = pair()
    graph = relations(torch.arange(12).repeat(2))
    assert graph.sum() == 24 and not graph.diagonal().any()
    for ours, theirs in [(graph_nt_xent(torch.cat([a, b]), graph, temperature=0.2), nt_xent(a, b, temperature=0.2)),
                         (graph_vicreg(torch.cat([a, b]), graph, **WEIGHTS), vicreg(a, b, **WEIGHTS)),
                         (graph_spectral(torch.cat([a, b]), graph) + 6, interplay_loss(a, b))]:
        assert ours.item() == pytest.approx(theirs.item(), abs=1e-12)
        for mine, other in zip(torch.autograd.grad(ours, (a, b)), torch.autograd.grad(theirs, (a, b))):
            torch.testing.assert_close(mine, other, atol=1e-12, rtol=0)


def test_relations_come_from_items_and_labels():
    index, y = torch.tensor([0, 1, 2, 3, 0]), torch.tensor([5, 5, -1, -1, 5])
    expected = torch.zeros(5, 5, dtype=torch.bool)
    for i, j in [(0, 1), (0, 4), (1, 4)]:
        expected[i, j] = expected[j, i] = True
    assert torch.equal(relations(index, y), expected)


@pytest.mark.parametrize("seed", range(3))
def test_any_graph_against_naive_loops(seed):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(10, 4, generator=generator, dtype=torch.float64)
    graph = torch.rand(10, 10, generator=generator, dtype=torch.float64) < 0.3
    graph = (graph | graph.T) & ~torch.eye(10, dtype=torch.bool)
    graph[3], graph[:, 3] = False, False  # a row without relations
    unit, rows = F.normalize(z, dim=1), []
    for i in range(10):
        others = [j for j in range(10) if j != i]
        total = torch.logsumexp(torch.stack([unit[i] @ unit[j] / 0.5 for j in others]), 0)
        friends = [j for j in others if graph[i, j]]
        rows.append(sum(total - unit[i] @ unit[j] / 0.5 for j in friends) / len(friends) if friends else torch.tensor(0.0))
    assert graph_nt_xent(z, graph, temperature=0.5).item() == pytest.approx(2 * float(sum(rows)) / 10, abs=1e-12)
    edges = [(i, j) for i in range(10) for j in range(10) if graph[i, j]]
    pull = sum(float((z[i] - z[j]).square().sum()) for i, j in edges) / len(edges)
    assert graph_vicreg(z, graph, invariance=1, variance=0, covariance=0).item() == pytest.approx(pull / 4, abs=1e-12)
    spectral = -2 * sum(float(z[i] @ z[j]) for i, j in edges) / len(edges) + sum(float(a @ b) ** 2 for a in z for b in z) / 100
    assert graph_spectral(z, graph).item() == pytest.approx(spectral, abs=1e-12)


def test_half_precision_is_raised_and_no_relation_is_no_nan():
    z = torch.randn(6, 4, dtype=torch.bfloat16)
    none = torch.zeros(6, 6, dtype=torch.bool)
    for loss in (graph_nt_xent(z, none, temperature=0.1), graph_vicreg(z, none, **WEIGHTS), graph_spectral(z, none)):
        assert loss.dtype == torch.float32 and torch.isfinite(loss)


def test_the_order_brings_relations_together_and_loses_nobody():
    group = np.full(40, -1)
    group[[3, 17, 30]], group[[5, 21]], group[10:16] = 0, 1, 2
    order = np.random.default_rng(0).permutation(40)
    found = side_by_side(order, group, 4)
    assert sorted(found) == list(range(40))
    place = {item: k for k, item in enumerate(found)}
    assert abs(place[5] - place[21]) == 1 and np.ptp([place[i] for i in (3, 17, 30)]) == 2
    runs = np.sort([place[i] for i in range(10, 16)])
    assert (np.diff(runs) == 1).sum() >= 4  # six of a group: four, and two
    alone = [i for i in found if group[i] < 0]
    assert alone == [i for i in order if group[i] < 0]  # the rest keeps its order
    assert np.array_equal(side_by_side(order, np.full(40, -1), 4), order) and np.array_equal(side_by_side(order, group, 1), order)


def test_a_run_over_epochs_resumes_to_the_bit(tmp_path):
    """The order of a later epoch follows from what earlier ones saw, which is in the checkpoint."""
    from selftaught.testing import train

    source = source_of("table", 64)
    plan = make_plan(source, {"method": "pal", "batch_size": 16, "steps": 10, "precision": "32-true", "log_every": 1,
                              "checkpoint_every": 1000, "device": "cpu"})
    whole = train(plan, source)[1].losses
    first = train(plan, source, stop_after=6, folder=tmp_path)[1].losses
    assert whole == first + train(plan, source, folder=tmp_path)[1].losses


def test_an_unknown_objective_is_a_sentence():
    source = source_of("table", 64)
    with pytest.raises(OptionError, match="nt_xent, spectral, vicreg"):
        make_plan(source, {"method": "pal", "method.objective": "hinge", "steps": 1}).build_method()


def test_pairs_to_ask_about():
    from selftaught.protocols.relations import influential_pairs, random_pairs

    pairs = random_pairs(50, 200)
    assert len(pairs) == len(np.unique(pairs, axis=0)) == 200 and (pairs[:, 0] < pairs[:, 1]).all()
    assert np.bincount(pairs.ravel(), minlength=50).std() < 4  # 8 questions an item, give or take
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 16))
    z = (centres[np.arange(60) % 5] + 0.05 * rng.normal(size=(60, 16))).astype(np.float32)
    found = influential_pairs(z, 80, block=17)
    assert len(found) == 80 and (found[:, 0] < found[:, 1]).all() and (found[:, 0] % 5 == found[:, 1] % 5).all()
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    everyone = np.sort((unit @ unit.T)[np.triu_indices(60, 1)])[::-1]
    assert (unit[found[:3, 0]] * unit[found[:3, 1]]).sum(1) == pytest.approx(everyone[:3], abs=1e-6)


def test_answers_are_joined():
    from selftaught.protocols.relations import joined

    group = joined(8, np.array([[0, 1], [1, 2], [3, 4], [5, 6]]), np.array([True, True, False, True]))
    assert group[0] == group[1] == group[2] >= 0 and group[5] == group[6] >= 0 and group[0] != group[5]
    assert (group[[3, 4, 7]] == -1).all()


def test_learning_goes_on_from_the_encoder():
    """One step at no rate leaves the weights; steps at a rate change them, and the given encoder is left alone."""
    from selftaught.encoder import Encoder
    from selftaught.protocols.relations import learn_relations

    source = source_of("table", 64)
    plan = make_plan(source, {"method": "simclr", "steps": 1, "batch_size": 16, "precision": "32-true", "device": "cpu"})
    encoder = Encoder(plan.build_backbone(), plan.preprocessing, backbone_name=plan["backbone"])
    before = encoder.embed(source)
    options = {"batch_size": 16, "precision": "32-true", "device": "cpu"}
    moved = learn_relations(encoder, source, np.arange(64) % 7, steps=8, **options)
    assert np.array_equal(encoder.embed(source), before) and not np.allclose(moved.embed(source), before)
    still = learn_relations(encoder, source, np.full(64, -1), steps=1, lr=0.0, **options)
    for mine, theirs in zip(still.backbone.parameters(), encoder.backbone.parameters()):
        torch.testing.assert_close(mine, theirs, atol=0, rtol=0)
