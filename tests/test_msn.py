"""MSN: the paper's formula, what is encoded, its refusal of a ConvNet, that it learns where the broken objective does not."""

import copy
import math

import pytest
import torch

from selftaught.contracts import NotApplicable, Terms
from selftaught.objectives.entropy import mean_entropy_gap
from selftaught.testing import draft, source_of

SMALL = {"backbone.width": 32, "backbone.depth": 1, "backbone.heads": 2}
TINY = {**SMALL, "method.hidden": 32, "method.width": 16, "method.prototypes": 12}


def one_step(modality="table", **options):
    source = source_of(modality, 64)
    plan = draft("msn", modality, source, **{**TINY, "batch_size": 16, **options})
    method, stream = plan.build_method(), plan.stream(source)
    batch = next(stream.batches(0, 1, rank=0, world=1, accumulate=1))
    return method, stream.views(batch, batch.draws(0, "train")), batch


def test_the_gap_is_zero_only_where_all_classes_are_used_alike():
    p = torch.eye(4, dtype=torch.float64).repeat(3, 1)
    assert float(mean_entropy_gap(p)) == pytest.approx(0.0, abs=1e-12)
    assert float(mean_entropy_gap(p[:1].repeat(5, 1))) == pytest.approx(math.log(4))
    q = torch.rand(6, 4, dtype=torch.float64).softmax(1).requires_grad_()
    mean = q.mean(0).tolist()
    assert float(mean_entropy_gap(q.detach())) == pytest.approx(math.log(4) + sum(m * math.log(m) for m in mean))
    assert torch.autograd.gradcheck(mean_entropy_gap, (q,))


@pytest.mark.parametrize("modality", ["image", "series", "table"])
def test_it_is_the_papers_formula(modality):
    method, views, batch = one_step(modality, **{"method.balanced": False, "method.focal": 3, "method.entropy": 0.7})
    assert [v.role for v in views] == ["global"] * 2 + ["local"] * 3
    reference = copy.deepcopy(method)
    loss = method(views, batch)
    assert isinstance(loss, Terms) and set(loss.named) == {"prediction", "entropy_gap"}
    with torch.no_grad():
        unit = torch.nn.functional.normalize
        q = unit(reference.prototypes.weight, dim=1)
        target = unit(reference.teacher(views[0]), dim=1) @ q.T
        target = torch.softmax(target / 0.1, 1) ** 4
        target = target / target.sum(1, keepdim=True)
        b = reference.student.backbone
        kept = views[1].applied["keep"][0]
        z = reference.student.head(b(views[1].x, lengths=views[1].lengths, keep=kept).pooled)
        focal = reference.student.head(torch.cat([b(v.x, lengths=v.lengths).pooled for v in views[2:]]))
        p = torch.softmax(unit(torch.cat([z, focal]), dim=1) @ q.T / 0.1, 1)
        prediction = -(target.repeat(4, 1) * p.log()).sum(1).mean()
        gap = math.log(12) + (p.mean(0) * p.mean(0).log()).sum()
    torch.testing.assert_close(loss.total.detach(), prediction + 0.7 * gap, rtol=1e-4, atol=1e-5)


def test_sinkhorn_balances_the_targets():
    method, _, _ = one_step()
    scores = torch.rand(48, 12, generator=torch.Generator().manual_seed(0)) * 0.1 + torch.tensor([0.5] + [0.0] * 11)
    assert method.assign(scores).sum(0).max() < 8 < torch.softmax(scores / 0.025, 1).sum(0).max()


def test_only_what_is_visible_of_the_anchor_enters():
    method, views, batch = one_step(**{"method.masked": 0.5})
    before = method.visible(views[1])
    hidden = views[1].masks[0]
    changed = views[1].with_(x=torch.where(hidden, views[1].x + 1.0, views[1].x))
    numeric = method.student.backbone.numeric
    changed.x[:, numeric:] = views[1].x[:, numeric:]
    torch.testing.assert_close(method.visible(changed), before)
    assert not torch.allclose(before, method.visible(views[1].with_(x=views[1].x + 1.0)), atol=1e-3)


def test_options_bear_on_what_is_needed():
    from selftaught.methods import MSN

    need = MSN.needed({"focal": 4, "masked": 0.7})
    assert need.small == 4 and need.mask.ratio == (0.7, 0.7) and MSN.needs.small == 10
    assert len(one_step(**{"method.focal": 1})[1]) == 3


@pytest.mark.parametrize("modality, backbone", [("image", "convnet"), ("series", "convnet"), ("table", "mlp")])
def test_a_backbone_without_tokens_is_refused(modality, backbone):
    with pytest.raises(NotApplicable, match=f"msn needs a backbone .*{backbone} is none"):
        source = source_of(modality, 32)
        from selftaught.plan import make_plan

        make_plan(source, {"method": "msn", "backbone": backbone, "steps": 1, "batch_size": 8, "device": "cpu"}).stream(source)
