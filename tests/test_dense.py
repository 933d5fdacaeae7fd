"""Dense probes, correspondence, attention maps and the equal error rate against naive loops and closed forms."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import norm

from selftaught.contracts import DataError, Facts, NotApplicable
from selftaught.evaluation.attention import attention_distance, attention_entropy, attention_rollout
from selftaught.evaluation.dense import correspondence, dense_probe, mean_iou, overlaps, token_knn, token_labels, token_places
from selftaught.evaluation.verification import equal_error_rate, trade, trial_list, verification
from selftaught.networks import build_backbone
from selftaught.networks.attention import attention_maps

# ---- segmentation by tokens ------------------------------------------------------------------------------------------


def scenes(items: int, seed: int, *, noise: float = 0.3):
    """Tokens [N, 16, 6] on a 4 × 4 grid whose first three numbers tell the class, and masks [N, 12, 12] of 3 classes in bands."""
    rng = np.random.default_rng(seed)
    coarse = np.sort(rng.integers(0, 3, (items, 4, 4)), axis=2)
    tokens = np.concatenate([np.eye(3)[coarse.reshape(items, 16)], np.zeros((items, 16, 3))], 2)
    return (tokens + rng.normal(0, noise, tokens.shape)).astype(np.float32), coarse.repeat(3, 1).repeat(3, 2)


def test_a_linear_map_of_informed_tokens_segments_and_of_uninformed_ones_does_not():
    (x, masks), (test, answers) = scenes(40, 0), scenes(20, 1)
    good = dense_probe(x, masks, test, answers)
    assert good.metric == "miou" and good.low <= good.value <= good.high and good.n == 20
    assert good.value > 0.6 and good.detail["accuracy"] > 0.8
    broken = dense_probe(x, np.roll(masks, 1, axis=0), test, answers)  # the masks of other items
    assert broken.value < good.value - 0.15
    assert token_knn(x, masks, test, answers).value > token_knn(x, np.roll(masks, 1, axis=0), test, answers).value + 0.15


def test_items_of_one_group_are_held_out_together_and_are_one_unit():
    (x, masks), (test, answers) = scenes(40, 0), scenes(20, 1)
    group = np.arange(40) // 8
    kept = dense_probe(x, masks, test, answers, groups=group, test_groups=group[:20])
    assert kept.n == token_knn(x, masks, test, answers, test_groups=group[:20]).n == 3
    assert kept.detail["grid"] != dense_probe(x, masks, test, answers).detail["grid"]


def test_tokens_that_say_all_are_segmented_without_an_error_at_tokens():
    (x, masks), (test, answers) = scenes(30, 0, noise=0.01), scenes(10, 1, noise=0.01)
    score = dense_probe(x, token_labels(masks, (4, 4)), test, token_labels(answers, (4, 4)), grid=(4, 4))
    assert score.value == 1.0 and score.detail["accuracy"] == 1.0 and token_knn(x, masks, test, answers, k=5).value == 1.0


def test_iou_equals_a_naive_loop():
    rng = np.random.default_rng(0)
    predicted, answers = rng.integers(0, 3, (5, 7, 6)), rng.integers(-1, 4, (5, 7, 6))
    counts, naive = overlaps(predicted, answers), []
    for c in range(4):
        hit = union = 0
        for mine, theirs in zip(predicted.reshape(-1), answers.reshape(-1)):
            if theirs >= 0:
                hit, union = hit + (mine == c and theirs == c), union + (mine == c or theirs == c)
        naive.append(hit / union)
    means = np.concatenate([counts["both"], counts["either"]], 1).mean(0)[None]
    assert np.allclose(mean_iou(means), np.mean(naive)) and counts["classes"].tolist() == [0, 1, 2, 3]


def test_a_token_has_the_class_of_most_of_its_pixels():
    mask = np.array([[[0, 0, 2, 2], [0, 1, -1, -1], [1, 1, -1, -1], [0, 1, -1, -1]]])
    assert token_labels(mask, (2, 2)).tolist() == [[0, 2, 1, -1]]
    assert token_labels(np.arange(5)[None], (2,)).tolist() == [[0, 3]]  # cells of three and two


def test_shapes_that_do_not_fit_are_refused():
    x, masks = scenes(8, 0)
    for wrong in ((x[:, :15], masks), (x, masks[:4]), (x.reshape(8, -1), masks), (x, masks.astype(np.float32))):
        with pytest.raises(DataError):
            dense_probe(*wrong, x, masks)
    with pytest.raises(DataError, match="nothing can be told apart"):
        dense_probe(x, np.zeros_like(masks), x, masks)


# ---- correspondence --------------------------------------------------------------------------------------------------


def test_tokens_of_one_place_are_matched_and_shuffled_ones_are_not():
    rng, grid = np.random.default_rng(0), (6, 6)
    boxes = [np.tile(box, (12, 1)).astype(float) for box in ((0, 0, 0.75, 0.75), (0.25, 0.25, 1, 1))]
    places = [token_places(box, grid) for box in boxes]
    waves = rng.normal(0, 4, (2, 64))
    views = [np.concatenate([np.sin(p @ waves), np.cos(p @ waves)], 2) for p in places]  # what is seen depends on the place alone
    good = correspondence(*views, *places, radius=0.07)
    assert good.value > 0.95 and good.detail["distance"] < 0.07 and good.detail["tokens"] == 12 * 16
    broken = correspondence(views[0], views[1][:, rng.permutation(36)], *places, radius=0.07)
    assert broken.value < 0.3 and broken.detail["chance"] == pytest.approx(1 / 36)
    with pytest.raises(DataError, match="overlap"):
        correspondence(*views, places[0], places[1] + 5)


def test_places_follow_boxes_and_flips():
    box = np.array([[0.0, 0.5, 1.0, 1.0]])  # top, left, bottom, right
    assert np.allclose(token_places(box, (1, 2))[0], [[0.5, 0.625], [0.5, 0.875]])
    assert np.allclose(token_places(box, (1, 2), flips=[[False, True]])[0], [[0.5, 0.875], [0.5, 0.625]])


# ---- attention -------------------------------------------------------------------------------------------------------


def test_maps_are_the_weights_that_the_blocks_use():
    torch.manual_seed(0)
    backbone = build_backbone("vit_tiny", Facts("series", 9, (1, 24), lengths=(8, 24)), patch=4, width=16, depth=2, heads=2).eval()
    x, lengths = torch.randn(3, 1, 24), torch.tensor([24, 9, 16])
    maps = attention_maps(backbone, x, lengths=lengths)
    assert [m.shape for m in maps] == [(3, 2, 7, 7)] * 2 and torch.allclose(maps[1].sum(-1), torch.ones(3, 2, 7))
    assert not maps[0][1, :, :, 4:].any()  # nothing is seen of padding
    block, inputs = backbone.transformer.blocks[0], []
    handle = block.register_forward_pre_hook(lambda module, given: inputs.append(given))
    backbone(x, lengths=lengths)
    handle.remove()
    given, visible = inputs[0]
    q, k, v = block.qkv(block.norm1(given)).view(3, 7, 3, 2, 8).permute(2, 0, 3, 1, 4)
    assert torch.allclose(maps[0] @ v, F.scaled_dot_product_attention(q, k, v, attn_mask=visible), atol=1e-5)
    assert torch.equal(attention_maps(backbone, x, layers=[-1])[0], attention_maps(backbone, x)[1])
    with pytest.raises(NotApplicable, match="no blocks of attention"):
        attention_maps(build_backbone("convnet", Facts("series", 9, (1, 24)), widths=(4, 8)), x)


def test_distance_entropy_and_rollout_in_closed_form():
    even, own = np.full((1, 2, 5, 5), 0.2), np.tile(np.eye(5), (1, 2, 1, 1))
    distance = attention_distance([even, own], (4,))  # the first token is cls
    assert np.allclose(distance, [[1.25, 1.25], [0, 0]])  # of all pairs of 0..3
    assert np.allclose(attention_distance([even], (4,), lengths=[2]), 0.5)
    assert np.allclose(attention_distance([even[:, :, 1:, 1:] * 1.25], (2, 2)), (0 + 1 + 1 + 2**0.5) / 4)
    assert np.allclose(attention_entropy([even, own]), [[1, 1], [0, 0]])
    assert np.allclose(attention_rollout([own, own]), np.eye(5)) and np.allclose(attention_rollout([even, own, even]).sum(2), 1)


# ---- verification ----------------------------------------------------------------------------------------------------


def test_the_rate_of_two_normals_is_known():
    rng = np.random.default_rng(0)
    scores, same = np.concatenate([rng.normal(2, 1, 4000), rng.normal(0, 1, 40000)]), np.arange(44000) < 4000
    score = equal_error_rate(scores, same, resamples=100)
    assert score.low < norm.cdf(-1) < score.high and 0.005 < score.high - score.low < 0.02
    assert score.detail["threshold"] == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("scores, same, rate", [
    ([1, 2, 3, 4], [0, 0, 1, 1], 0), ([1, 2, 3, 4], [1, 1, 0, 0], 1), ([1, 2, 3, 4], [0, 1, 0, 1], 0.5),
    ([0, 0, 0, 0], [1, 1, 0, 0], 0.5), ([0, 1, 1, 2], [0, 0, 1, 1], 0.25)])
def test_the_rate_of_a_few_trials(scores, same, rate):
    assert equal_error_rate(scores, same).value == pytest.approx(rate)


def test_the_trade_equals_a_naive_count():
    rng = np.random.default_rng(0)
    scores, same = rng.integers(0, 9, 60) / 4, rng.random(60) < 0.4
    curve = trade(scores, same)
    for threshold, accepted, rejected in zip(curve.threshold, curve.accepted, curve.rejected):
        assert accepted == pytest.approx((scores[~same] >= threshold).mean())
        assert rejected == pytest.approx((scores[same] < threshold).mean())
    costs = [0.01 * (scores[same] < t).mean() + 0.99 * (scores[~same] >= t).mean() for t in [*np.unique(scores), np.inf]]
    assert curve.cost(target=0.01, miss=1, false_alarm=1) == pytest.approx(min(costs) / 0.01)
    assert curve.points(5)[0] == [1, 0] and curve.points(5)[-1] == [0, 1]


def test_trials_that_share_items_widen_the_interval():
    rng, y = np.random.default_rng(0), np.repeat(np.arange(12), 5)
    x = rng.normal(0, 1, (12, 6))[y] + rng.normal(0, 1, (60, 6))
    score = verification(x, y, resamples=100)
    a, b = trial_list(y)
    assert (a < b).all() and len(a) == 60 * 59 // 2
    assert score.detail["same"] == 12 * 10 and score.detail["over"] == "classes" and score.n == 12
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    naive = equal_error_rate((unit[a] * unit[b]).sum(1), y[a] == y[b], resamples=100)
    assert naive.value == pytest.approx(score.value) and score.high - score.low > naive.high - naive.low
    assert verification(x, rng.permutation(y), resamples=50).value > 0.35 > score.value  # the broken control
    with pytest.raises(DataError, match="trials of both kinds"):
        verification(x, np.zeros(60, int))
    with pytest.raises(DataError, match="trials of one and of two"):
        equal_error_rate([1.0, 2.0], [True, True])
