"""The U-Net: shapes on every number of axes, what reaches what, and that it learns where a thing is."""

import pytest
import torch
import torch.nn.functional as F

from selftaught.contracts import Facts, NotApplicable, OptionError
from selftaught.networks import build_backbone


def network(*sides, widths=(4, 6, 8), channels=1):
    torch.manual_seed(0)
    return build_backbone("unet", Facts({1: "series", 2: "image", 3: "volume"}[len(sides)], 9, (channels, *sides)), widths=widths)


@pytest.mark.parametrize("sides", [(22,), (12, 9), (8, 6, 5)])
def test_every_place_has_features_on_any_axes_and_sides(sides):
    net = network(*sides, channels=2)
    x = torch.randn(3, 2, *sides)
    found = net(x)
    lowest = [-(-side // 4) for side in sides]
    assert found.pooled.shape == (3, 8) and found.tokens.shape == (3, torch.tensor(lowest).prod(), 8)
    torch.testing.assert_close(found.tokens.mean(1), found.pooled)
    assert net.dense(x).shape == (3, 4, *sides)
    assert net.dense(x, blocks=1).shape == (3, 6, *(2 * n for n in lowest)) and net.dense(x, blocks=0).shape == (3, 8, *lowest)


def test_gradients_of_the_dense_features_reach_all_of_it_or_the_decoder_alone():
    net, x = network(8, 8), torch.randn(2, 1, 8, 8)
    for encoder in (True, False):
        net.zero_grad()
        net.dense(x, encoder=encoder).square().sum().backward()
        reached = {n.split(".")[0] for n, p in net.named_parameters() if p.grad is not None}
        assert reached == {"narrow", "decoder", *(["encoder"] if encoder else [])}


def test_an_encoder_that_is_not_trained_stands_still():
    net, x = network(8, 8), 3 + torch.randn(4, 1, 8, 8)
    for _ in range(20):
        net(x)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    dense = net.dense(x, encoder=False)
    moved = {name.split(".")[0] for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"decoder"} and all(part.training for part in net.modules())
    assert not torch.allclose(dense, net.dense(x), atol=1e-3)  # by its own statistics, not the batch's


def test_what_it_cannot_be_is_refused():
    with pytest.raises(OptionError, match="at least 2 levels"):
        network(8, 8, widths=(4,))
    with pytest.raises(NotApplicable, match="table item"):
        build_backbone("unet", Facts("table", 9, (5,)))
    with pytest.raises(NotApplicable, match="of one length"):
        network(12)(torch.randn(2, 1, 12), lengths=torch.tensor([12, 8]))


def test_it_learns_a_ring_around_a_dot_and_not_from_masks_of_other_items():
    """A ring is seen only by its surroundings: a few steps with Dice on true masks find it, with another item's they do not."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    centre = torch.randint(4, 12, (48, 2, 1, 1), generator=generator)
    far = ((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2).float().sqrt()
    images, masks = (far < 1.5).float()[:, None] + 0.1 * torch.randn(48, 1, 16, 16, generator=generator), ((far > 2) & (far < 4)).float()

    def dice(wrong):
        net = network(16, 16)
        head = torch.nn.Conv2d(4, 1, 1)
        optimiser = torch.optim.Adam([*net.parameters(), *head.parameters()], 2e-2)
        for _ in range(25):
            part = head(net.dense(images[:32]))[:, 0].sigmoid()
            target = masks[:32].roll(1, 0) if wrong else masks[:32]
            optimiser.zero_grad()
            (1 - 2 * (part * target).sum() / (part + target).sum() + F.binary_cross_entropy(part, target)).backward()
            optimiser.step()
        with torch.no_grad():
            found = (head(net.eval().dense(images[32:]))[:, 0] > 0).float()
        return float(2 * (found * masks[32:]).sum() / (found + masks[32:]).sum().clamp(min=1))

    assert dice(False) > 0.6 > dice(True) + 0.2
