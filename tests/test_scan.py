"""The selective scan equals its sequential recurrence; the Mamba backbone keeps the promises of token backbones."""

import pytest
import torch
import torch.nn.functional as F

from selftaught.contracts import Facts
from selftaught.networks import build_backbone
from selftaught.networks.mamba import MambaStack
from selftaught.networks.scan import selective_scan

SMALL = {"width": 16, "depth": 2, "state": 4}


def inputs(batch: int, length: int, width: int, state: int) -> list[torch.Tensor]:
    torch.manual_seed(0)
    made = [torch.randn(batch, length, width), F.softplus(torch.randn(batch, length, width)), -3 * torch.rand(width, state),
            torch.randn(batch, length, state), torch.randn(batch, length, state)]
    return [part.double().requires_grad_() for part in made]


def sequential(x, step, decay, enter, leave):
    """The recurrence as the paper writes it, a place at a time."""
    state, y = x.new_zeros(len(x), *decay.shape), []
    for t in range(x.shape[1]):
        state = torch.exp(step[:, t, :, None] * decay) * state + (step[:, t] * x[:, t])[..., None] * enter[:, t, None]
        y.append((state * leave[:, t, None]).sum(-1))
    return torch.stack(y, dim=1)


@pytest.mark.parametrize("length, lanes, segment", [(1, None, None), (37, None, None), (37, 1, 5), (37, 4, None), (37, 4, 8), (16, 4, 16)])
def test_the_scan_and_its_gradients_are_those_of_the_sequential_recurrence(length, lanes, segment):
    given = inputs(2, length, 3, 4)
    ours, theirs = selective_scan(*given, lanes=lanes, segment=segment), sequential(*given)
    assert (ours - theirs).abs().max() < 1e-12
    weight = torch.randn_like(theirs)
    for mine, other in zip(torch.autograd.grad(ours, given, weight), torch.autograd.grad(theirs, given, weight), strict=True):
        assert (mine - other).abs().max() < 1e-11


def test_gradients_by_finite_differences():
    assert torch.autograd.gradcheck(lambda *given: selective_scan(*given, lanes=2, segment=4), inputs(1, 7, 2, 3))


def test_long_memories_and_large_steps_stay_finite():
    x, step, decay, enter, leave = (part.detach().float() for part in inputs(2, 512, 3, 4))
    step[:, ::2], step[:, 1::2] = 1e4, 0.0  # forgets all, then nothing
    found = selective_scan(x, step, decay, enter, leave, lanes=16)
    assert found.isfinite().all()
    assert torch.allclose(found, sequential(x, step, decay, enter, leave), rtol=1e-4, atol=1e-4)
    assert selective_scan(x.bfloat16(), step, decay, enter, leave).dtype == torch.bfloat16


def test_padding_anywhere_is_as_if_it_were_not_there():
    torch.manual_seed(0)
    stack, tokens = MambaStack(16, 2, 4, 2.0, 4).double(), torch.randn(1, 12, 16).double()
    valid = torch.tensor([[1, 1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0]], dtype=torch.bool)
    padded, alone = stack(tokens, valid, [0]), stack(tokens[valid][None], None, [0])
    assert torch.allclose(padded[0], alone[0], atol=1e-12)
    assert torch.allclose(padded[1][valid], alone[1][0], atol=1e-12) and not padded[1][~valid].any()
    assert torch.allclose(padded[2][0][valid], alone[2][0][0], atol=1e-12)


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_a_batch_of_varying_lengths_equals_one_by_one(pool):
    torch.manual_seed(0)
    backbone = build_backbone("mamba", Facts("series", 9, (2, 40), lengths=(8, 40)), patch=4, pool=pool, **SMALL).double().eval()
    x, lengths = torch.randn(3, 2, 40).double(), torch.tensor([40, 17, 8])
    together = backbone(x, lengths=lengths)
    assert together.lengths.tolist() == [10, 5, 2]
    for i, length in enumerate(lengths.tolist()):
        alone = backbone(x[i : i + 1, :, :length])
        assert torch.allclose(together.pooled[i], alone.pooled[0], atol=1e-12)


def test_subsets_masks_and_layers():
    torch.manual_seed(0)
    backbone = build_backbone("mamba", Facts("image", 9, (3, 16, 16)), patch=4, **SMALL).eval()
    x, keep = torch.randn(2, 3, 16, 16), torch.tensor([[0, 3, 9], [1, 2, 15]])
    assert torch.equal(backbone(x, keep=torch.arange(16).expand(2, -1)).pooled, backbone(x).pooled)
    few = backbone(x, keep=keep, layers=(0, -1))
    assert few.tokens.shape == (2, 3, 16) and [layer.shape for layer in few.layers] == [(2, 3, 16)] * 2
    blank = backbone(x, masked=torch.ones(2, 16, dtype=torch.bool), mask_token=torch.ones(16))
    assert torch.allclose(blank.tokens[0], blank.tokens[1], atol=1e-6)  # nothing of the items is left
    assert not torch.allclose(backbone(x).tokens[0], backbone(x).tokens[1], atol=1e-2)


def test_every_token_hears_of_every_other():
    torch.manual_seed(0)
    backbone = build_backbone("mamba", Facts("series", 9, (1, 16)), patch=2, **SMALL).double()
    x = torch.randn(1, 1, 16).double().requires_grad_()
    for place in (0, 7):
        (slope,) = torch.autograd.grad(backbone(x).tokens[0, place].square().sum(), x)
        assert (slope[0, 0].view(8, 2).abs().sum(1) > 0).all()
