"""DeepCluster and what it is made of: k-means, whitening, orders over clusters, and the hook that joins them."""

import numpy as np
import pytest
import torch

from selftaught.contracts import Clock, Facts, Features, epoch_order
from selftaught.methods import DeepCluster
from selftaught.methods.clusters import dealt_order, even_order
from selftaught.networks import Embedder
from selftaught.objectives.kmeans import kmeans, whitened_unit
from selftaught.testing import draft, score, source_of, train


def blobs(k=5, each=40, d=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    centres = 10 * torch.randn(k, d, generator=g, dtype=torch.float64)
    return centres.repeat_interleave(each, 0) + torch.randn(k * each, d, generator=g, dtype=torch.float64)


def test_kmeans_is_lloyds_algorithm():
    x = blobs()
    labels, _ = kmeans(x, 5, seed=3, iterations=4)
    centroids = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(3))[:5]].tolist()
    near = lambda row: min(range(5), key=lambda c: sum((a - b) ** 2 for a, b in zip(row, centroids[c])))  # noqa: E731
    for _ in range(4):
        members = [[row for row in x.tolist() if near(row) == c] for c in range(5)]
        assert all(members)  # none runs empty from this seed, so that nothing is split
        centroids = [[sum(column) / len(m) for column in zip(*m)] for m in members]
    assert labels.tolist() == [near(row) for row in x.tolist()]


def test_kmeans_follows_from_its_seed_and_settles():
    x = blobs()
    labels, centroids = kmeans(x, 5, seed=1)
    again = kmeans(x, 5, seed=1)
    assert torch.equal(labels, again[0]) and torch.equal(centroids, again[1])
    for c in labels.unique():
        torch.testing.assert_close(centroids[c], x[labels == c].mean(0))


def test_empty_clusters_take_from_others():
    x = torch.cat([torch.zeros(60, 2), 1.0 + 0.01 * torch.randn(60, 2, generator=torch.Generator().manual_seed(0))])
    labels, _ = kmeans(x, 8, seed=0)
    kept, _ = kmeans(x, 8, seed=0, iterations=0)  # several centroids start on the one point that sixty rows share
    assert len(kept.unique()) < len(labels.unique())


def test_whitened_rows_are_principal_components_of_variance_one():
    x = torch.randn(500, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x * torch.tensor([9.0, 5.0, 3.0, 1.0, 0.5, 0.0])
    centred = x - x.mean(0)
    scores, scale, _ = torch.linalg.svd(centred, full_matrices=False)
    for width in (3, 6):
        expected = scores[:, : min(width, 5)] * 500**0.5  # the sixth direction is constant: zero, not noise
        expected = expected / expected.norm(dim=1, keepdim=True)
        found = whitened_unit(x, width)
        torch.testing.assert_close(found @ found.T, expected @ expected.T)
    assert whitened_unit(torch.ones(4, 3)).eq(0).all()


def test_orders_visit_clusters_equally_often():
    labels = np.random.default_rng(0).choice(7, 600, p=[0.5, 0.2, 0.1, 0.1, 0.05, 0.04, 0.01])
    for order in (even_order, dealt_order):
        visits = order(labels, epoch_order(0, "train", 0, 600))
        counts = np.bincount(labels[visits], minlength=7)
        assert len(visits) == 600 and counts.max() - counts.min() <= 1
        large = visits[labels[visits] == 0]
        assert len(set(large)) == len(large)  # a cluster gives every item once before it gives one again
    assert not np.array_equal(visits, dealt_order(labels, epoch_order(0, "train", 1, 600)))
    shuffled = labels[even_order(labels, epoch_order(0, "train", 0, 600))]
    assert 0.05 < (shuffled[1:] == shuffled[:-1]).mean() < 0.25  # 1/7 where the order is random


class _Rows(torch.nn.Module):
    width = 4

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x, *, lengths=None, keep=None, layers=()):
        return Features(x * self.scale)


def test_the_hook_clusters_all_items_and_begins_the_classifier_anew():
    torch.manual_seed(0)
    method = DeepCluster(_Rows(), facts=Facts("table", 200, (4,)), clusters=5, reassign=2)
    assert method.clusters.k == 5 and isinstance(method.student, Embedder)
    assert DeepCluster(_Rows(), facts=Facts("table", 200, (4,))).clusters.k == 20  # a tenth of the items at most
    x = blobs(d=4).float()
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    passes = lambda: ((part, Features(x[part])) for part in order.split(64))  # noqa: E731
    method.clock = Clock(epoch=0)
    with torch.no_grad():
        method.between_epochs(passes)
        expected = kmeans(whitened_unit(x), 5, seed=int(method.clusters.seed))[0]
        assert torch.equal(method.clusters.labels, expected) and method.student.head.bias.eq(0).all()
        first = method.student.head.weight.clone()
        assert 0.005 < first.std() < 0.02
        method.clock = Clock(epoch=1)
        method.between_epochs(passes)
        assert torch.equal(method.student.head.weight, first)
        method.clock = Clock(epoch=2)
        method.between_epochs(passes)
        assert not torch.equal(method.student.head.weight, first)


def test_a_run_that_is_resumed_finds_the_same_clusters(tmp_path):
    source = source_of("table", 160)
    plan = draft("deepcluster", "table", source, steps=10, batch_size=32, **{"method.reassign": 1})
    whole, outcome = train(plan, source)
    first = train(plan, source, stop_after=5, folder=tmp_path)[1]  # at the end of an epoch: the hook is called once more
    again, rest = train(plan, source, folder=tmp_path)
    assert outcome.losses == first.losses + rest.losses
    assert torch.equal(whole.clusters.labels, again.clusters.labels) and len(whole.clusters.labels.unique()) > 8
    middle = tmp_path / "middle"
    train(plan, source, stop_after=7, folder=middle)
    assert train(plan, source, folder=middle)[1].losses == outcome.losses[7:]


class _Drawn(DeepCluster):
    """DeepCluster without its idea: items are given to clusters at random."""

    name = "drawn"

    def between_epochs(self, passes):
        super().between_epochs(passes)
        g = torch.Generator().manual_seed(self.clock.epoch)
        self.clusters.labels.copy_(self.clusters.labels[torch.randperm(len(self.clusters.labels), generator=g)])


def test_it_learns_and_random_clusters_do_not():
    reference, test = source_of("table", 768), source_of("table", 384, seed=1)
    plan = draft("deepcluster", "table", reference, steps=192, lr=8e-3)
    start = score(plan, plan.build_method(), reference, test, estimate=True)
    trained = score(plan, train(plan, reference)[0], reference, test)
    broken = draft(_Drawn, "table", reference, steps=192, lr=8e-3)
    control = score(plan, train(broken, reference, stop_on_collapse=False)[0], reference, test)
    assert trained > start + 0.05 and trained > control + 0.05


@pytest.mark.parametrize("modality", ["image", "series", "table"])
def test_every_modality(modality):
    source = source_of(modality, 64)
    _, outcome = train(draft("deepcluster", modality, source, batch_size=16, steps=4), source)
    assert len(outcome.losses) == 4 and all(np.isfinite(outcome.losses))
