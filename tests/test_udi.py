"""UDI's stratified sampling, and that its second target is the consolidated profile; the rest is in the conformance tests."""

import math

import pytest
import torch

from selftaught.contracts import Features
from selftaught.methods.udi import Unsqueeze, stratified
from selftaught.testing import draft, source_of


def test_one_token_of_every_window_all_of_a_window_alike():
    grid, window = (5, 4), 2
    places = stratified(torch.rand(4000, 20, generator=torch.Generator().manual_seed(0)), grid, window)
    assert places.shape == (4000, 6)
    row, column = places // 4, places % 4
    assert (row // 2 == torch.tensor([0, 0, 1, 1, 2, 2])).all() and (column // 2 == torch.tensor([0, 1] * 3)).all()
    often = places.flatten().bincount(minlength=20) / 4000
    expected = torch.tensor([0.25] * 16 + [0.5] * 4)  # the last row of windows is cut
    assert (often - expected).abs().max() < 0.04


def test_what_lies_inside_is_preferred():
    inside = torch.tensor([[True, False, False, False, True, False]])
    assert stratified(torch.tensor([[0.9, 0.1, 0.5, 0.4, 0.8, 0.2]]), (6,), 2, inside).tolist() == [[0, 3, 4]]


def test_the_second_class_token_sees_no_padding():
    torch.manual_seed(0)
    module, tokens, pooled = Unsqueeze(16, 4), torch.randn(2, 5, 16), torch.randn(2, 16)
    padded = torch.cat([tokens, torch.zeros(2, 3, 16)], 1)
    short, long = module(Features(pooled, tokens)), module(Features(pooled, padded, lengths=torch.tensor([5, 5])))
    assert torch.allclose(short[0], long[0], atol=1e-6) and torch.allclose(short[1], long[1][:, :5], atol=1e-6)


@torch.no_grad()
def test_the_second_target_is_what_a_loop_over_items_and_places_gives():
    """α, centres and views that may not be exchanged: the weights differ, and every centre is its own."""
    source = source_of("image", 64)
    plan = draft("udi", "image", source, batch_size=6, **{"method.alpha": 0.3})
    method, stream = plan.build_method().double().eval(), plan.stream(source)
    for centre in (method.centre, method.profile_centre):
        centre.value.normal_(std=0.1)
    batch = next(iter(stream.batches(0, 1, rank=0, world=1, accumulate=1)))
    views = [v.with_(x=v.x.double()) for v in stream.views(batch, batch.draws(0, "train", step=0))]
    draws, head, grid = batch.draws(0, "udi"), method.teacher.module.head, method.student.backbone.grid(views[0].x.shape)
    chosen, entropies = draws.integers("hidden view", 2), []
    predicted = [method.encode(v if v.masks is None else v.with_(masks=v.masks & (chosen == k)[:, None]))[2] / 0.1
                 for k, v in enumerate(views)]
    for k in range(2):
        taught = method.targets(views[k])
        places = stratified(draws.split(k).uniform("strata", math.prod(grid)), grid, 2)
        for b in range(6):
            mean = sum(head(taught[b : b + 1, 1 + int(place)])[0] for place in places[b]) / len(places[b])
            score = 0.3 * mean + 0.7 * head(taught[b : b + 1, 0])[0]
            exponents = ((score - method.profile_centre.value) / 0.04).exp()
            target = exponents / exponents.sum()
            entropies += [-sum(t * math.log(p) for t, p in zip(target.tolist(), other[b].softmax(0).tolist()))
                          for v, other in enumerate(predicted) if v != k]
    assert float(method(views, batch).named["unsqueezed"]) == pytest.approx(sum(entropies) / len(entropies), abs=1e-9)


def test_windows_of_one_token_give_the_mean_of_all_places():
    """The profile then has no chance in it: the mean of what the teacher's head makes of every token; the terms have equal weights."""
    source = source_of("image", 64)
    plan = draft("udi", "image", source, batch_size=16, **{"method.window": 1})
    method, stream = plan.build_method().double(), plan.stream(source)
    batch = next(iter(stream.batches(0, 1, rank=0, world=1, accumulate=1)))
    views = [v.with_(x=v.x.double()) for v in stream.views(batch, batch.draws(0, "train", step=0))]
    large = next(v for v in views if v.role == "global")
    tokens = method.targets(large)[:, 1:]
    everywhere = method.teacher.module.head.eval()(tokens.flatten(0, 1)).view(*tokens.shape[:2], -1)
    found = method.profile(large, tokens, batch.draws(0, "any"))
    assert torch.allclose(found, everywhere.mean(1), atol=1e-12)
    method.window = 2
    assert not torch.allclose(method.profile(large, tokens, batch.draws(0, "any")), everywhere.mean(1), atol=1e-6)
    terms = method.train()(views, batch)
    assert float(terms.total.detach()) == pytest.approx(sum(float(v) for v in terms.named.values()) / 3)
