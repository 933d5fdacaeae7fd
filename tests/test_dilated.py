"""The dilated network: what a step sees, padding, pooling, gradients, and where it does not belong."""

import pytest
import torch

from selftaught.contracts import Facts, NotApplicable, OptionError
from selftaught.networks import build_backbone

FACTS = Facts("series", 10, (2, 40))


def build(facts=FACTS, **options):
    torch.manual_seed(0)
    return build_backbone("dilated", facts, **{"hidden": 4, "width": 6, **options}).double()


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_shapes_and_pooling(pool):
    net, x = build(pool=pool), noise(3, 2, 40)
    features = net(x)
    assert features.tokens.shape == (3, 40, 6) and net.grid((2, 40)) == (40,) and net.width == 6
    torch.testing.assert_close(features.pooled, features.tokens.amax(1) if pool == "max" else features.tokens.mean(1))


def test_a_step_sees_as_far_as_the_dilations_reach():
    net, x = build(depth=2), noise(1, 2, 40).requires_grad_()
    net(x).tokens[0, 20].sum().backward()
    seen = x.grad.abs().sum((0, 1)).nonzero().flatten()
    reach = 2 * (1 + 2 + 4)  # two convolutions a block
    assert (seen.min(), seen.max()) == (20 - reach, 20 + reach)


def test_by_default_a_step_in_the_middle_sees_all():
    for steps in (8, 25, 150, 361):
        net = build(Facts("series", 10, (1, steps)))
        assert 2 * (2 ** len(net.blocks) - 1) >= steps - 1 and len(net.blocks) <= 11
    assert len(build(Facts("series", 10, (1, 100_000))).blocks) == 11  # the paper's ten and the last


def test_padding_is_not_seen():
    net, x = build(), noise(2, 2, 40)
    lengths = torch.tensor([13, 40])
    spoiled = x.clone()
    spoiled[0, :, 13:] = 99.0
    a, b = net(x, lengths=lengths), net(spoiled, lengths=lengths)
    torch.testing.assert_close(a.pooled, b.pooled)
    torch.testing.assert_close(a.tokens, b.tokens)
    assert (a.tokens[0, 13:] == 0).all()
    torch.testing.assert_close(a.pooled[:1], net(x[:1, :, :13]).pooled)  # as the short series alone
    torch.testing.assert_close(a.pooled[1:], net(x[1:]).pooled)


def test_a_batch_is_its_items():
    net, x = build().train(), noise(3, 2, 40)
    torch.testing.assert_close(net(x).pooled, torch.cat([net(row[None]).pooled for row in x]))
    net(x).pooled.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_elsewhere_it_says_so():
    for facts, other in ((Facts("image", 10, (3, 8, 8)), "convnet"), (Facts("table", 10, (5,)), "mlp")):
        with pytest.raises(NotApplicable, match=other):
            build_backbone("dilated", facts)
    with pytest.raises(OptionError, match="max or mean"):
        build(pool="sum")
    with pytest.raises(NotApplicable, match="subset"):
        build()(noise(1, 2, 40), keep=torch.zeros(1, 3, dtype=torch.int64))
