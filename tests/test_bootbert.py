"""BootBERT: its two losses against naive loops, a teacher without dropout, and that hidden words are learned from their own text."""

import torch
import torch.nn.functional as F

from selftaught.contracts import Batch, Draws, Facts, View
from selftaught.methods import BootBERT
from selftaught.networks import build_backbone
from selftaught.views.masks import Masked


def built(**options):
    torch.manual_seed(0)
    facts = Facts("text", 256, (12,), vocabulary=20)
    backbone = build_backbone("text_transformer", facts, width=16, depth=1, heads=2, dropout=options.pop("dropout", 0.0))
    return BootBERT.build(backbone, facts, **options)


def made(method, step=0, items=16, lengths=None):
    """(views, batch): texts that repeat one of eight words, of which some are hidden."""
    index = torch.arange(items) + items * step
    draws = Draws.for_items(0, "train", torch.zeros_like(index), index)
    x = (4 + draws.integers("word", 8, 1)).expand(-1, 12)
    x = x if lengths is None else x.masked_fill(torch.arange(12) >= lengths[:, None], 0)
    lengths = torch.full((items,), 12) if lengths is None else lengths
    batch = Batch({"x": x}, index, index, torch.zeros_like(index))
    mask = BootBERT.needed({"masked": 0.4}).mask
    return Masked(lambda b, d: [View(b.x, lengths)], mask, method.student.backbone.grid)(batch, draws), batch


def test_both_losses_equal_naive_loops_and_padding_does_not_count():
    method, lengths = built(latent=0.5, weight=2.0).double(), torch.tensor([12, 8, 5, 12])
    (view,), batch = made(method, items=4, lengths=lengths)
    out = method([view], batch)
    hidden = method.student.backbone(view.x, lengths=lengths, masked=view.masks[0], mask_token=method.mask_token).tokens
    whole, latent, model = method.teacher.backbone(view.x, lengths=lengths).tokens, 0.0, 0.0
    for b in range(4):
        places = [n for n in range(12) if view.masks[0, b, n] and n < lengths[b]]
        for n in places:
            latent = latent + F.smooth_l1_loss(method.bootstrap(hidden[b, n]), F.layer_norm(whole[b, n], (16,))) / len(places) / 4
            model = model - method.model(hidden[b, n]).log_softmax(0)[view.x[b, n]] / len(places) / 4
    assert torch.allclose(out.named["latent"], latent.detach()) and torch.allclose(out.named["model"], model.detach())
    assert torch.allclose(out.total, 0.5 * latent + 2.0 * model)


def test_the_teacher_has_no_dropout_and_the_student_has():
    method = built(dropout=0.5).train()
    (view,), _ = made(method)
    assert torch.equal(method.targets(view), method.targets(view)) and method.student.backbone.training
    assert not torch.equal(method.student.backbone(view.x).tokens, method.student.backbone(view.x).tokens)


def test_hidden_words_are_learned_from_their_own_text_alone():
    found = {}
    for broken in (False, True):
        method = built(weight=1.0)
        if broken:  # every target is another text's
            own, signal = method.targets, method.signal.forward
            method.targets = lambda view, own=own: own(view).roll(1, 0)
            method.signal.forward = lambda x, lengths=None, signal=signal: signal(x, lengths).roll(1, 0)
        optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], 1e-2)
        for step in range(60):
            out = method(*made(method, step, 32))
            optimizer.zero_grad()
            out.total.backward()
            optimizer.step()
        found[broken] = out.named
    assert found[False]["model"] < 0.3 < 1.5 < found[True]["model"]
    assert found[False]["latent"] < 0.7 * found[True]["latent"]
