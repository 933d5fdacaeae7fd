"""Our BatchNorm against torch's and against naive formulae; views, conversion, estimation."""

import copy

import pytest
import torch
from torch import nn

from selftaught.contracts import Facts, Features, OptionError, View
from selftaught.networks import BatchNorm, Embedder, Mlp, build_backbone, convert_batch_norm, estimate_batch_norm, over
from selftaught.networks.batchnorm import view_groups

SHAPES = [(6, 3), (6, 3, 5), (6, 3, 4, 5), (6, 3, 2, 3, 4)]
TORCH = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_torch(shape):
    ours, theirs = BatchNorm(3).double(), TORCH[len(shape)](3).double()
    with torch.no_grad():
        theirs.weight.uniform_(0.5, 2)
        theirs.bias.normal_()
    ours.load_state_dict(theirs.state_dict())
    for _ in range(2):
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        a, b = ours(x), theirs(x)
        g = torch.randn_like(a)
        assert torch.equal(a, b)
        for left, right in zip(torch.autograd.grad(a, [x, ours.weight], g), torch.autograd.grad(b, [x, theirs.weight], g)):
            assert torch.equal(left, right)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_views_have_statistics_of_their_own(shape):
    joined, one_by_one = BatchNorm(3).double(), BatchNorm(3).double()
    views = [torch.randn(shape, dtype=torch.float64) * (i + 1) + i for i in range(3)]
    for output, view in zip(over(views, joined), views):
        dims = [d for d in range(view.ndim) if d != 1]
        naive = (view - view.mean(dims, keepdim=True)) / (view.var(dims, keepdim=True, unbiased=False) + 1e-5).sqrt()
        assert torch.allclose(output, naive, atol=1e-12)
        assert torch.equal(output, one_by_one(view))
    for name, value in one_by_one.state_dict().items():
        assert torch.equal(joined.state_dict()[name], value)
    together = torch.cat(over(views, BatchNorm(3).double(), joint=True))
    assert torch.allclose(together, BatchNorm(3).double()(torch.cat(views)), atol=1e-12)


def test_groups_follow_samples_that_became_rows():
    norm, views = BatchNorm(3).double(), [torch.randn(4, 5, 3, dtype=torch.float64) for _ in range(2)]
    tokens = over(views, lambda x: norm(x.flatten(0, 1)))  # [B * N, C]
    for output, view in zip(tokens, views):
        assert torch.allclose(output, BatchNorm(3).double()(view.flatten(0, 1)), atol=1e-12)
    with pytest.raises(OptionError, match="first axis"), view_groups((4, 4)):
        norm(torch.randn(7, 3).double())


def test_bf16_autocast_and_channels_last():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), BatchNorm(8)).to(memory_format=torch.channels_last)
    x = torch.randn(4, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16), view_groups((2, 2)):
        y = network(x)
    assert y.dtype == torch.bfloat16 and y.is_contiguous(memory_format=torch.channels_last)
    assert network[1].running_var.dtype == torch.float32
    assert torch.allclose(y[:2].float().mean((0, 2, 3)), torch.zeros(8), atol=2e-2)


def test_one_value_a_channel_is_refused_in_training_only():
    norm = BatchNorm(3)
    with pytest.raises(OptionError, match="at least 2"):
        norm(torch.randn(1, 3))
    assert norm(torch.randn(1, 3, 4)).shape == (1, 3, 4)
    assert norm.eval()(torch.randn(1, 3)).shape == (1, 3)


def test_convert_keeps_the_same_tensors_and_results():
    class Wide(nn.BatchNorm1d):
        """May do more than normalise."""

    network = nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4, eps=1e-3, momentum=0.3), nn.Sequential(nn.SyncBatchNorm(4)), Wide(4),
        nn.BatchNorm1d(4, affine=False, track_running_stats=False), nn.InstanceNorm1d(4))
    network[1](torch.randn(5, 4, 3))
    network[1].eval()
    x, before = torch.randn(5, 2, 9), copy.deepcopy(network)
    network = convert_batch_norm(network)
    assert [type(network[i]) for i in (1, 4)] == [BatchNorm] * 2 and type(network[2][0]) is BatchNorm
    assert type(network[3]) is Wide and type(network[5]) is nn.InstanceNorm1d
    assert not network[1].training and network[2].training and network[1].momentum == 0.3
    assert network.state_dict().keys() == before.state_dict().keys()
    for name, value in before.state_dict().items():
        assert torch.equal(network.state_dict()[name], value)
    before[2][0] = nn.BatchNorm1d(4)  # torch's SyncBatchNorm refuses a processor
    assert torch.equal(network(x), before(x))
    assert torch.equal(network.eval()(x), before.eval()(x))
    shared = nn.BatchNorm1d(3)
    twice = convert_batch_norm(nn.ModuleList([shared, shared]))
    assert twice[0] is twice[1] and type(convert_batch_norm(shared)) is BatchNorm


def test_estimate_is_the_average_over_batches():
    network = nn.Sequential(nn.Dropout(0.9), BatchNorm(3), nn.BatchNorm1d(3, momentum=None)).double()
    network[0].eval()
    batches = [torch.randn(8, 3, dtype=torch.float64) * (i + 1) + i for i in range(3)]
    estimate_batch_norm(network, batches)
    assert torch.allclose(network[1].running_mean, torch.stack([b.mean(0) for b in batches]).mean(0), atol=1e-12)
    assert torch.allclose(network[1].running_var, torch.stack([b.var(0) for b in batches]).mean(0), atol=1e-12)
    assert torch.allclose(network[2].running_mean, torch.zeros(3).double(), atol=1e-12)
    assert [part.training for part in network] == [False, True, True]
    assert network[1].momentum == 0.1 and network[2].momentum is None and int(network[1].num_batches_tracked) == 3


def test_estimate_takes_views_of_series():
    backbone = build_backbone("convnet", Facts("series", 9, (2, 20)), widths=(4, 8))
    view = View(torch.randn(5, 2, 20), lengths=torch.tensor([20, 9, 4, 20, 1]))
    estimate_batch_norm(backbone, [view])
    x = view.x.masked_fill(torch.arange(20) >= view.lengths[:, None, None], 0.0)
    assert torch.allclose(backbone.norms[0].running_mean, backbone.convolutions[0](x).mean((0, 2)), atol=1e-6)


def test_mlp_under_over_equals_separate_forwards():
    class Flat(nn.Module):
        def forward(self, x, lengths=None):
            return Features(x.flatten(1))

    torch.manual_seed(0)
    model = Embedder(Flat(), Mlp(6, 8, 4, layers=3, last_norm=True)).double()
    other = copy.deepcopy(model)
    views = [torch.randn(5, 6).double() for _ in range(2)]
    a, b = over(views, model), [other(view) for view in views]
    sum(z.square().sum() * (i + 1) for i, z in enumerate(a)).backward()
    sum(z.square().sum() * (i + 1) for i, z in enumerate(b)).backward()
    for left, right in zip(model.parameters(), other.parameters()):
        assert torch.allclose(left.grad, right.grad, atol=1e-12)
