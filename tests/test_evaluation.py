"""The probes of evaluation/ against scikit-learn and naive loops: neighbours, k-NN, linear, budgets, clustering, retrieval."""

import json

import numpy as np
import pytest
import torch

from selftaught import evaluation as e
from selftaught.contracts import DataError, OptionError
from selftaught.evaluation.linear import best
from selftaught.evaluation.neighbours import search


def clouds(n=300, d=8, classes=3, noise=1.0, seed=0):
    """Gaussian clouds around random centres: (x float32 [n, d], y int64 [n])."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((classes, d)) * 1.5
    y = rng.integers(0, classes, n)
    return (centres[y] + noise * rng.standard_normal((n, d))).astype(np.float32), y


@pytest.fixture(scope="module")
def four():
    return (*clouds(300, seed=1, noise=2.0), *clouds(200, seed=2, noise=2.0))


# neighbours and k-NN


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbours_equal_a_full_sort(metric):
    q, r = clouds(50, seed=1)[0].astype(np.float64), clouds(211, seed=2)[0].astype(np.float64)
    if metric == "cosine":
        full = 1 - (q / np.linalg.norm(q, axis=1)[:, None]) @ (r / np.linalg.norm(r, axis=1)[:, None]).T
    else:
        full = np.linalg.norm(q[:, None] - r[None], axis=2)
    distance, index = e.neighbours(q, r, 7, metric=metric)
    np.testing.assert_array_equal(index, full.argsort(1)[:, :7])
    np.testing.assert_allclose(distance, np.sort(full, 1)[:, :7], rtol=1e-5, atol=1e-6)
    assert distance.dtype == np.float32 and index.dtype == np.int64


@pytest.mark.parametrize("block", [(5, 3), (7, 10), (64, 300), (2048, 16384)])
@pytest.mark.parametrize("skip_self", [False, True])
def test_blocks_change_nothing(block, skip_self):
    x = torch.from_numpy(clouds(90)[0]).double()
    score, index = search(x, x, 12, skip_self=skip_self, block=block)
    similar = torch.nn.functional.normalize(x, dim=1) @ torch.nn.functional.normalize(x, dim=1).T
    if skip_self:
        similar.fill_diagonal_(-torch.inf)
    expected, place = similar.topk(12)
    torch.testing.assert_close(score, expected)
    assert torch.equal(index, place)


def test_neighbours_cut_k_and_name_what_is_wrong():
    x = clouds(5)[0]
    assert e.neighbours(x, x, 50, skip_self=True)[1].shape == (5, 4)
    for call in (lambda: e.neighbours(x, x, 0), lambda: e.neighbours(x, x, 1, metric="cosin"),
                 lambda: e.neighbours(x, x, 1, backend="annoy")):  # fmt: skip
        with pytest.raises(OptionError):
            call()
    with pytest.raises(DataError, match="width 8 and 3"):
        e.neighbours(x, x[:, :3], 1)


def test_faiss_agrees_or_is_named():
    x = clouds(60)[0]
    try:
        import faiss  # noqa: F401
    except ImportError:
        with pytest.raises(OptionError, match="faiss-cpu"):
            e.neighbours(x, x, 3, backend="faiss")
        return
    np.testing.assert_array_equal(e.neighbours(x, x, 3, backend="faiss", skip_self=True)[1], e.neighbours(x, x, 3, skip_self=True)[1])


@pytest.mark.parametrize("weighted", [True, False])
def test_knn_equals_scikit_learn(four, weighted):
    from sklearn.neighbors import KNeighborsClassifier

    weights = (lambda d: np.exp((1 - d) / 0.07)) if weighted else "uniform"
    model = KNeighborsClassifier(15, algorithm="brute", metric="cosine", weights=weights).fit(*four[:2])
    score = e.knn(*four, k=15, weighted=weighted)
    assert 0.5 < score.value < 0.98 and score.value == model.score(*four[2:])
    assert score.n == 200 and score.low < score.value < score.high and score.metric == "accuracy"


def test_knn_of_every_array_type(four):
    expected = e.knn(*four).value
    for kind in (np.float64, torch.float32, torch.float64):
        a, b = (torch.from_numpy(x).to(kind) if isinstance(kind, torch.dtype) else x.astype(kind) for x in (four[0], four[2]))
        assert e.knn(a, four[1], b, torch.from_numpy(four[3])).value == expected
    for kind in (torch.float16, torch.bfloat16):
        assert e.knn(torch.from_numpy(four[0]).to(kind), four[1], four[2], four[3]).value == pytest.approx(expected, abs=0.02)
    words = np.array(["ant", "bee", "cat"])
    score = e.knn(four[0], words[four[1]], four[2], words[four[3]])
    assert score.value == expected and set(score.detail["per_class"]) == set(words)


def test_knn_regression_is_the_weighted_mean():
    x, _ = clouds(120)
    y = x[:, 0].astype(np.float64) * 10
    score = e.knn(x[:80], y[:80], x[80:], y[80:], k=6)
    unit = x.astype(np.float64) / np.linalg.norm(x, axis=1)[:, None].astype(np.float64)
    predicted = []
    for q in unit[80:]:
        nearest = np.argsort(-(unit[:80] @ q))[:6]
        w = np.exp(unit[nearest] @ q / 0.07)
        predicted.append((w * y[nearest]).sum() / w.sum())
    residual = y[80:] - predicted
    assert score.metric == "r2"
    assert score.value == pytest.approx(1 - (residual**2).sum() / ((y[80:] - y[80:].mean()) ** 2).sum(), rel=1e-5)
    assert score.detail["rmse"] == pytest.approx(np.sqrt((residual**2).mean()), rel=1e-5)


def test_large_k_is_cut_with_a_note_and_unlabelled_rows_are_left_out(four):
    y = four[1].copy()
    y[:290] = -1
    score = e.knn(four[0], y, *four[2:], k=200)
    assert score.detail["k"] == 10 and score.detail["train"] == 10
    assert any("cut" in n for n in score.detail["notes"]) and any("290 of 300" in n for n in score.detail["notes"])
    assert score.value == e.knn(four[0][290:], y[290:], *four[2:], k=10).value


def test_imbalance_and_auc_are_reported(four):
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score
    from sklearn.neighbors import KNeighborsClassifier

    y, z = (four[1] == 0).astype(int), (four[3] == 0).astype(int)
    score = e.knn(four[0], y, four[2], z)
    model = KNeighborsClassifier(20, algorithm="brute", metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07)).fit(four[0], y)
    assert score.detail["imbalanced"]
    assert score.detail["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(z, model.predict(four[2])))
    assert score.detail["auc"] == pytest.approx(roc_auc_score(z, model.predict_proba(four[2])[:, 1]), abs=1e-5)


def test_score_survives_json(four):
    score = e.linear_probe(*four)
    back = e.Score.from_json(json.loads(json.dumps(score.to_json(), allow_nan=False)))
    assert (back.value, back.low, back.detail["l2"]) == (score.value, score.low, score.detail["l2"])
    assert e.Score("x", 1.0, float("nan"), float("nan"), 1).to_json()["low"] is None


# bad input


@pytest.mark.parametrize("probe", [e.knn, e.linear_probe, e.label_budgets])
def test_each_bad_input_is_a_sentence(probe, four):
    x, y, u, v = four
    holes = x.copy()
    holes[17, 2] = np.nan
    for arrays, word in [((holes, y, u, v), "row 17"), ((x, y[:-1], u, v), "300 rows of features but 299"),
                         ((x, y * 0, u, v), "single class"), ((x, y, u, v + 5), "train never shows"), ((x[:1], y[:1], u, v), "at least 2"),
                         ((x, y, u[:, :4], v), "width 8 and 4"), ((x, y * 0 - 1, u, v), "0 labelled rows"), ((x[:, 0], y, u, v), "shape"),
                         ((x, y.astype(float), u, v), "two of a kind"), ((x[:0], y[:0], u, v), "empty")]:  # fmt: skip
        with pytest.raises(DataError, match=word) as caught:
            probe(*arrays)
        assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


# linear probe


def test_logistic_regression_equals_scikit_learn(four):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    stretched = np.array([1e-3, 1, 1e3, 1, 1, 1, 1, 1], np.float32)
    x, u = four[0] * stretched + 5, four[2] * stretched + 5
    score = e.linear_probe(x, four[1], u, four[3])
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(C=1 / (len(x) * score.detail["l2"]), tol=1e-8, max_iter=5000).fit(scaler.transform(x), four[1])
    assert score.value == pytest.approx(model.score(scaler.transform(u), four[3]), abs=0.005)
    grid = score.detail["grid"]
    assert score.detail["l2"] == grid[best(grid, 300)]["l2"] and score.detail["held_out"] == 300


def test_the_penalty_is_chosen_by_accuracy_and_by_the_loss_among_equals():
    """Two grids that were seen: of speakers held out whole, where weak penalties are surer of fewer errors, and of noise."""
    speakers = [{"accuracy": a, "log_loss": loss} for a, loss in ((0.395, 1.73), (0.404, 2.14), (0.433, 2.74), (0.461, 3.96))]
    assert best(speakers, 2000) == 3 and best(speakers, 20) == 0  # on 20 rows the four are not told apart
    noise = [{"accuracy": a, "log_loss": loss} for a, loss in ((0.50, 0.70), (0.51, 0.69), (0.52, 0.80))]
    assert best(noise, 300) == 1
    assert best([{"accuracy": 1.0, "log_loss": 0.3}, {"accuracy": 0.99, "log_loss": 0.1}], 50) == 0


def test_the_penalty_is_chosen_without_a_look_at_test(four):
    x, y, u, v = four
    a, b = e.linear_probe(x, y, u, v), e.linear_probe(x, y, u[:50], (v[:50] + 1) % 3)
    assert a.detail["grid"] == b.detail["grid"] and a.detail["l2"] == b.detail["l2"]


def test_groups_are_held_out_whole():
    """A leaking group id makes weak penalties look best; held out whole, groups show that it carries nothing."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(60), 5)
    y = rng.integers(0, 2, 60)[group]
    x = rng.standard_normal((60, 100))[group] + 0.01 * rng.standard_normal((300, 100))
    torn, whole = (e.linear_probe(x, y, x[:20], y[:20], groups=g).detail for g in (None, group))
    assert torn["grid"][-1]["accuracy"] > 0.95 and whole["grid"][-1]["accuracy"] < 0.7
    assert torn["l2"] < whole["l2"]


def test_ridge_equals_scikit_learn():
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    for n, d in ((200, 12), (30, 50)):
        x, u = rng.standard_normal((n, d)) * 3 + 7, rng.standard_normal((40, d)) * 3 + 7
        w = rng.standard_normal(d)
        y, v = x @ w + 4 * rng.standard_normal(n), u @ w
        score = e.linear_probe(x, y, u, v)
        scaler = StandardScaler().fit(x)
        model = Ridge(alpha=score.detail["l2"] * n).fit(scaler.transform(x), y)
        assert score.metric == "r2" and score.value == pytest.approx(model.score(scaler.transform(u), v), rel=1e-5)


def test_constant_and_single_labelled_columns_do_no_harm(four):
    x, u = (np.concatenate([a, np.full((len(a), 1), 3.3)], 1) for a in (four[0], four[2]))
    assert e.linear_probe(x, four[1], u, four[3]).value == pytest.approx(e.linear_probe(*four).value, abs=0.005)
    first = [int(np.flatnonzero(four[1] == c)[0]) for c in range(3)]
    score = e.linear_probe(four[0][first], four[1][first], *four[2:])
    assert score.detail["l2"] == 1e-2 and "untuned" in score.detail["notes"][0]


# label budgets


def test_budgets_are_stratified_nested_and_fixed():
    y = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [700, 200, 99, 1]))
    small, large = e.budget_indices(y, 0.05, 1, 7), e.budget_indices(y, 0.5, 1, 7)
    np.testing.assert_array_equal(small, e.budget_indices(y, 0.05, 1, 7))
    assert len(small) == 50 and set(small) < set(large) and not np.array_equal(small, e.budget_indices(y, 0.05, 2, 7))
    assert np.abs(np.bincount(y[large]) - [350, 100, 49.5, 1]).max() < 3
    assert set(y[e.budget_indices(y, 2)]) == {0, 1, 2, 3} and len(e.budget_indices(y, 1.0)) == 1000
    assert np.isin(e.budget_indices(np.where(y == 3, -1, y), 0.9), np.flatnonzero(y < 3)).all()
    assert len(e.budget_indices(y.astype(float), 0.1)) == 100


def test_every_row_is_as_likely_within_its_class():
    y = np.repeat([0, 1], [30, 10])
    times = np.bincount(np.concatenate([e.budget_indices(y, 8, d) for d in range(2000)]), minlength=40) / 2000
    assert np.abs(times - 0.2).max() < 0.06


def test_grouped_budgets_take_whole_groups_and_meet_every_class():
    group = np.repeat(np.arange(100), 4)
    y = np.where(group < 97, group % 2, 2)
    for draw in range(20):
        rows = e.budget_indices(y, 0.1, draw, 0, group)
        assert set(y[rows]) == {0, 1, 2} and 40 <= len(rows) <= 44
        assert set(np.bincount(group[rows], minlength=100)) == {0, 4}


def test_label_budgets(four):
    result = e.label_budgets(*four, budgets=(0.05, 60, 1.0), draws=4, k=5)
    for name, plain in (("knn", e.knn(*four, k=5)), ("linear", e.linear_probe(*four))):
        assert list(result[name]) == [0.05, 60, 1.0]
        few, middle, every = result[name].values()
        assert (every.value, every.low, every.high) == (plain.value, plain.low, plain.high)
        assert few.detail["labels"] == 15 and middle.detail["labels"] == 60 and len(few.detail["per_draw"]) == 4
        assert few.value == pytest.approx(np.mean(few.detail["per_draw"]))
        assert few.low < few.value < few.high and max(few.detail["per_draw"]) > min(few.detail["per_draw"])
        json.dumps(few.to_json(), allow_nan=False)
    rows = e.budget_indices(four[1], 0.05, 2, 0)
    assert result["knn"][0.05].detail["per_draw"][2] == e.knn(four[0][rows], four[1][rows], *four[2:], k=5).value
    for wrong in (dict(budgets=(0,)), dict(budgets=(1.5,)), dict(budgets=(1,)), dict(protocol="lineer"), dict(draws=0)):
        with pytest.raises(OptionError):
            e.label_budgets(*four, **wrong)


# clustering and retrieval


def test_cluster_scores_of_known_tables():
    y = np.repeat([0, 1, 2], 10)
    perfect = e.cluster_scores((y + 1) % 3 * 7, y)
    assert (perfect["accuracy"], perfect["nmi"], perfect["ari"]) == (1.0, pytest.approx(1.0), pytest.approx(1.0))
    one = e.cluster_scores(y * 0, y)
    assert one["accuracy"] == pytest.approx(1 / 3) and one["nmi"] == pytest.approx(0) and one["ari"] == pytest.approx(0)
    split = e.cluster_scores(np.repeat([0, 1, 2, 3, 4, 5], 5), y)  # twice as many clusters: one of two counts
    assert split["accuracy"] == 0.5


def test_nmi_and_ari_equal_their_definitions():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, 80), rng.integers(0, 3, 80)
    b[:40] = a[:40] % 3
    p = np.array([[np.mean((a == i) & (b == j)) for j in range(3)] for i in range(4)])
    pa, pb = p.sum(1), p.sum(0)
    mutual = sum(p[i, j] * np.log(p[i, j] / pa[i] / pb[j]) for i in range(4) for j in range(3) if p[i, j] > 0)
    found = e.cluster_scores(a, b)
    assert found["nmi"] == pytest.approx(mutual / (-(pa * np.log(pa)).sum() - (pb * np.log(pb)).sum()) * 2)
    pairs = [((a[i] == a[j]), (b[i] == b[j])) for i in range(80) for j in range(i)]
    both, in_a, in_b = (sum(f(*q) for q in pairs) for f in (lambda s, t: s and t, lambda s, t: s, lambda s, t: t))
    chance = in_a * in_b / len(pairs)
    assert found["ari"] == pytest.approx((both - chance) / ((in_a + in_b) / 2 - chance))


def test_clustering_finds_clouds():
    x, y = clouds(400, noise=0.2)
    y[:50] = -1
    score = e.clustering(x, y)
    assert score.value == 1.0 and score.n == 350 and score.detail["nmi"] == pytest.approx(1) and score.low > 0.98
    assert e.clustering(x, k=3).value > 0.9 and e.clustering(x, k=3).metric == "silhouette"
    for bad in (dict(), dict(k=1), dict(k=400)):
        with pytest.raises(DataError):
            e.clustering(x, **bad)


def test_retrieval_equals_scikit_learn(four):
    from sklearn.metrics import average_precision_score

    x, y = four[0], four[1].copy()
    y[:3] = [7, -1, 8]  # alone, unlabelled, alone
    score = e.retrieval(x, y)
    keep = np.flatnonzero(y >= 0)
    unit = x[keep].astype(np.float64) / np.linalg.norm(x[keep], axis=1)[:, None]
    average, hit = [], []
    for i, row in enumerate(unit):
        others = np.arange(len(unit)) != i
        same = (y[keep] == y[keep][i])[others]
        if same.any():
            similar = (unit @ row)[others]
            average.append(average_precision_score(same, similar))
            hit.append(same[np.argsort(-similar)[:5]].any())
    assert score.value == pytest.approx(np.mean(average), abs=1e-6)
    assert score.detail["recall@5"] == pytest.approx(np.mean(hit)) and score.detail["without_partner"] == 2
    assert score.n == len(average) and e.retrieval(x, y, queries=50).n == 50


def test_retrieval_from_a_gallery():
    x, y = np.eye(3), np.arange(3)
    assert e.retrieval(x, y, gallery_x=np.eye(3), gallery_y=y).value == 1.0
    assert e.retrieval(x, y, gallery_x=np.eye(3)[[1, 2, 0]], gallery_y=y, k=(1,)).detail["recall@1"] == 0.0
    with pytest.raises(DataError, match="another item"):
        e.retrieval(x, y)


def test_mixed_precision_meets_in_the_wider(four):
    x, y, u, v = four
    assert e.knn(x.astype(np.float64), y, u.astype(np.float16), v).value == pytest.approx(e.knn(*four).value, abs=0.02)
    wide = e.retrieval(x, y, gallery_x=u.astype(np.float64), gallery_y=v).value
    assert wide == pytest.approx(e.retrieval(x, y, gallery_x=u, gallery_y=v).value, abs=1e-5)
    x.flags.writeable = False
    assert e.neighbours(x, u.astype(np.float64), 2)[0].shape == (300, 2)
    with pytest.raises(DataError, match="are numbers"):
        e.knn(np.array([["a", "b"], ["c", "d"]]), [0, 1], u, v)
