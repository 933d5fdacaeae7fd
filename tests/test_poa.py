"""Parts of a Transformer that share its weights, and POA: exact identities, the formulas by naive loops, and what the part learns."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F

from selftaught.contracts import Batch, Clock, Facts, NotApplicable, OptionError
from selftaught.methods.poa import sizes
from selftaught.networks import build_backbone
from selftaught.networks.elastic import Elastic, channels, sub_network
from selftaught.objectives import koleo
from selftaught.testing import draft, source_of

HEADS = {"method.norm": False, "method.hidden": 12, "method.bottleneck": 6, "method.outputs": (3, 4, 5, 6)}
NARROW = {"backbone.width": 16, "backbone.depth": 3, "backbone.heads": 4, **HEADS}


def network(name="vit_tiny", **options):
    torch.manual_seed(0)
    facts = {"vit_tiny": Facts("image", 9, (1, 8, 8)), "text_transformer": Facts("text", 9, (12,), vocabulary=40)}[name]
    found = build_backbone(name, facts, width=16, depth=4, heads=4, **options).double().eval()
    for parameter in found.parameters():  # no zeros and ones that would hide a mistake
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(5, 1, 8, 8, dtype=torch.float64) if name == "vit_tiny" else torch.randint(1, 40, (5, 12))
    return found, x


@pytest.mark.parametrize("name", ["vit_tiny", "text_transformer"])
def test_the_largest_part_is_the_whole_and_a_part_cut_out_is_the_one_that_shares_its_weights(name):
    backbone, x = network(name)
    assert torch.equal(sub_network(backbone, 4, 4)(x).pooled, backbone(x).pooled)
    elastic, cut = Elastic(backbone), sub_network(backbone, 2, 3)
    found = elastic((2, 3), x)
    assert found.pooled.shape == (5, 8) and cut.width == 8
    torch.testing.assert_close(found.pooled, cut(x).pooled, rtol=0, atol=1e-12)
    found.pooled.square().sum().backward()
    reached = {n for n, p in backbone.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {n.split(".")[2] for n in reached if n.startswith("transformer.blocks")} == {"0", "1", "3"}
    assert "embed.weight" in reached and all(p.grad is None for p in cut.parameters())


def test_a_part_is_what_the_paper_says():
    """One block by hand: rows and columns of the kept channels, heads and hidden units, times D / kept; norms and biases as they are."""
    backbone, x = network()
    width, kept, block = 16, channels(16, 8, torch.device("cpu")), backbone.transformer.blocks[0]
    assert kept.tolist() == [0, 2, 4, 6, 8, 10, 12, 14]
    tokens = backbone.embed(x).flatten(2).transpose(1, 2) + backbone.positions((2, 2), x)
    h = torch.cat([backbone.transformer.cls.expand(5, -1, -1), tokens], 1)[..., kept]
    norm = lambda v, layer: F.layer_norm(v, (8,), layer.weight[kept], layer.bias[kept], 1e-6)  # noqa: E731
    maps = zip(block.qkv.weight.split(width), block.qkv.bias.split(width))
    q, k, v = (norm(h, block.norm1) @ (2 * weight[:8, kept]).T + bias[:8] for weight, bias in maps)
    mixed = []
    for head in range(2):
        at = slice(4 * head, 4 * head + 4)
        mixed.append((q[..., at] @ k[..., at].transpose(1, 2) / 2).softmax(-1) @ v[..., at])
    h = h + torch.cat(mixed, -1) @ (2 * block.out.weight[kept][:, :8]).T + block.out.bias[kept]
    hidden = F.gelu(norm(h, block.norm2) @ (2 * block.mlp[0].weight[:32, kept]).T + block.mlp[0].bias[:32])
    h = h + hidden @ (2 * block.mlp[2].weight[kept][:, :32]).T + block.mlp[2].bias[kept]
    torch.testing.assert_close(Elastic(backbone)((2, 1), x).pooled, norm(h, backbone.transformer.norm)[:, 0], rtol=0, atol=1e-12)


def test_what_has_no_parts_says_so():
    with pytest.raises(NotApplicable, match="no narrower parts"):
        Elastic(build_backbone("convnet", Facts("image", 9, (1, 8, 8)), widths=(4, 8)))
    with pytest.raises(OptionError, match="no part of 5 heads"):
        sub_network(network()[0], 5, 1)
    with pytest.raises(OptionError, match="no smaller part"):
        sizes(1, 1, 0.375, 0.5, 3.0)


def one_step(**changes):
    source = source_of("image", 24)
    plan = draft("poa", "image", source, batch_size=8, **{**NARROW, **changes})
    stream = plan.stream(source)
    batch = next(stream.batches(0, 1, rank=0, world=1, accumulate=1))
    views = [v.with_(x=v.x.double()) for v in stream.views(batch, batch.draws(0, "train"))]
    return plan.build_method().double(), views, batch


def test_sizes_are_those_of_the_paper_and_small_ones_come_more_often():
    found = sizes(16, 24, 0.375, 0.5, 3.0)  # of ViT-L: 11 widths and 13 depths, from ViT-S on
    assert len(found) == 11 * 13 - 1 and found[6, 12] == 9 and found[16, 23] == 1 and (16, 24) not in found
    method, _, _ = one_step()
    assert set(method.sizes) == {(w, d) for w in (2, 3, 4) for d in (2, 3)} - {(4, 3)}
    zero, seen = torch.zeros(1, dtype=torch.int64), Counter()
    for step in range(3000):
        method.clock = Clock(step=step, steps=3000)
        seen[method.drawn_size(Batch({}, zero, zero, zero))] += 1
    total = sum(method.sizes.values())
    assert all(abs(seen[size] / 3000 - weight / total) < 0.04 for size, weight in method.sizes.items())


def test_another_seed_draws_other_sizes():
    method, _, batch = one_step()
    drawn = []
    for seed in (0, 0, 1):
        clocks = [Clock(step=step, steps=50, seed=seed) for step in range(50)]
        drawn.append([method.drawn_size(batch) for method.clock in clocks])
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_loss_is_its_formula():
    method, views, batch = one_step()
    size, named = method.drawn_size(batch), method(views, batch).named
    part = sub_network(method.student.backbone, *size)
    kept = channels(16, part.width, torch.device("cpu"))

    def part_scores(x):
        pooled = part(x).pooled
        scores = []
        for head in method.student.head:  # the first map by its kept columns, the rest as it is
            first = head.mlp[0]
            z = pooled @ (first.weight[:, kept] * 16 / part.width).T + (0 if first.bias is None else first.bias)
            scores.append(head.last(F.normalize(head.mlp[1:](z), dim=-1)))
        return scores

    whole = [method.student(v).split(method.outputs, 1) for v in views]
    parts = [part_scores(v.x) for v in views]
    taught = [method.teacher(v).split(method.outputs, 1) for v in views[:2]]
    entropy = lambda target, scores: -(target * (scores / 0.1).log_softmax(1)).sum(1).mean()  # noqa: E731
    wanted = {"intact": 0.0, "elastic": 0.0, "same_view": 0.0}
    for head in range(4):
        q = (torch.cat([t[head] for t in taught]) / 0.04).exp()
        for _ in range(3):
            q = q / q.sum(0) / q.shape[1]
            q = q / q.sum(1, keepdim=True) / len(q)
        q = (q * len(q)).chunk(2)
        pairs = [(i, j) for i in range(2) for j in range(len(views)) if i != j]
        for name, student in (("intact", whole), ("elastic", parts)):
            wanted[name] += sum(entropy(q[i], student[j][head]) for i, j in pairs) / len(pairs) / 4
        same = [entropy((w[head] / 0.1).softmax(1), p[head]) for w, p in zip(whole, parts)]
        wanted["same_view"] += (sum(same[:2]) / 2 + sum(same[2:]) / (len(views) - 2)) / 4
    for name, value in wanted.items():
        torch.testing.assert_close(named[name], value.detach(), rtol=1e-9, atol=1e-9)
    spreads = [koleo(network(v.x).pooled) for network in (method.student.backbone, part) for v in views[:2]]
    torch.testing.assert_close(named["koleo"], sum(spreads).detach() / 2)
    total = 0.8 * named["intact"] + 0.2 * (named["elastic"] + named["same_view"]) + 0.1 * named["koleo"]
    torch.testing.assert_close(method(views, batch).total.detach(), total)


def test_parts_learn_what_the_whole_does_and_only_where_they_take_part():
    """From strong weights 20 steps bring the part's classes closer to the whole's than as many steps without the elastic student."""
    apart = []
    for intact in (0.2, 1.0):
        method, views, batch = one_step(**{"method.intact": intact, "method.koleo": 0.0})
        torch.manual_seed(1)
        for parameter in method.student.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        optimiser, size = torch.optim.Adam(method.student.parameters(), 3e-3), method.drawn_size(batch)
        for _ in range(20):
            optimiser.zero_grad()
            method(views, batch).total.backward()
            optimiser.step()
        with torch.no_grad():
            whole, part = ((method.encode(views[0], of)[1] / 0.1).split(method.outputs, 1) for of in (None, size))
            apart.append(sum(F.kl_div(b.log_softmax(1), a.softmax(1), reduction="batchmean") for a, b in zip(whole, part)))
    assert apart[0] < 0.7 * apart[1], apart
