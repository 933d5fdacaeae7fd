"""Backbones, heads, adapters and the shared forward."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from selftaught.contracts import Column, Facts, Features, NotApplicable, OptionError, View, names
from selftaught.networks import (
    Backbone,
    BatchNorm,
    DinoHead,
    Embedder,
    LinearHead,
    Mlp,
    Prototypes,
    build_backbone,
    ordered_pairs,
    over,
)
from selftaught.networks.convnet import stage_strides
from selftaught.networks.transformer import attend
from selftaught.networks.vit import default_patch

COLUMNS = (Column("a", "numeric"), Column("b", "boolean"), Column("c", "date"), Column("d", "categorical", ("x", "y", "z")),
           Column("e", "categorical", ("u", "v")))
IMAGE, SERIES = Facts("image", 9, (3, 32, 32)), Facts("series", 9, (2, 50))
TABLE = Facts("table", 9, (5,), columns=COLUMNS)
SMALL_VIT = {"width": 24, "depth": 2, "heads": 3}


def table_rows(count=6):
    x = torch.cat([torch.randn(count, 3), torch.randint(0, 3, (count, 1)).float(), torch.randint(0, 2, (count, 1)).float()], 1)
    x[0, 0], x[1, 3] = float("nan"), -1.0
    return x


@pytest.mark.parametrize("name, facts, width", [
    ("convnet", IMAGE, 256), ("convnet", SERIES, 256), ("resnet18", IMAGE, 512), ("resnet18", SERIES, 512),
    ("resnet34", SERIES, 512), ("resnet50", SERIES, 2048), ("vit_tiny", IMAGE, 192), ("vit_tiny", SERIES, 192),
    ("mlp", TABLE, 256), ("mlp", SERIES, 256), ("mlp", IMAGE, 256), ("table_transformer", TABLE, 192)])
def test_every_backbone_learns_from_every_parameter(name, facts, width):
    backbone = build_backbone(name, facts)
    x = table_rows() if facts is TABLE else torch.randn(4, *facts.shape)
    features = backbone(x)
    assert features.pooled.shape == (len(x), width) and backbone.width == width
    assert features.tokens is not None or "tokens" not in backbone.abilities
    pooled = features.pooled if "tokens" not in backbone.abilities else features.pooled + features.tokens.sum(1)
    (pooled * torch.randn_like(pooled)).sum().backward()
    for parameter_name, p in backbone.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), parameter_name


def test_registered_names_and_errors():
    assert set(names("backbone")) >= {"convnet", "resnet18", "resnet34", "resnet50", "vit_tiny", "vit_small", "vit_base", "mlp",
                                      "table_transformer"}
    with pytest.raises(OptionError, match="Did you mean 'resnet18'"):
        build_backbone("resnet-18", IMAGE)
    with pytest.raises(OptionError, match="Did you mean 'widths'"):
        build_backbone("convnet", IMAGE, width=(3, 4))
    with pytest.raises(NotApplicable, match="table item has shape"):
        build_backbone("resnet18", TABLE)
    with pytest.raises(NotApplicable, match="columns of a table"):
        build_backbone("table_transformer", IMAGE)
    with pytest.raises(NotApplicable, match="subset of tokens"):
        build_backbone("convnet", IMAGE)(torch.randn(2, 3, 32, 32), keep=torch.zeros(2, 1, dtype=torch.int64))
    with pytest.raises(OptionError, match="no layer 5"):
        build_backbone("vit_tiny", IMAGE, **SMALL_VIT)(torch.randn(2, 3, 32, 32), layers=(5,))
    with pytest.raises(OptionError, match="multi-crop"):
        build_backbone("mlp", IMAGE)(torch.randn(2, 3, 16, 16))


def test_vit_sizes():
    for name, millions in (("vit_tiny", 5.5), ("vit_small", 21.6), ("vit_base", 85.8)):
        with torch.device("meta"):
            network = build_backbone(name, Facts("image", 9, (3, 224, 224)), positions="learned")
        assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)
        assert network.grid((3, 224, 224)) == (14, 14) and network.grid((4, 3, 90, 224)) == (6, 14)


def test_sizes_follow_the_resolution():
    assert [default_patch((s, s)) for s in (20, 32, 64, 96, 224)] == [4, 4, 8, 8, 16]
    assert [default_patch((s,)) for s in (5, 64, 128, 1000, 16000)] == [1, 1, 2, 16, 256]
    assert [stage_strides(s, 4, 2) for s in (8, 20, 32, 64, 224)] == [
        [1, 2, 1, 1], [1, 2, 2, 1], [1, 2, 2, 2], [2, 2, 2, 2], [8, 2, 2, 2]]
    assert stage_strides(5, 4, 1) == [1, 1, 1, 1] and stage_strides(1, 4, 2) == [1, 1, 1, 1]
    small, large = (build_backbone("resnet18", Facts("image", 9, (1, side, side))) for side in (64, 65))
    assert small.conv1.stride == (1, 1) and isinstance(small.maxpool, nn.Identity)
    assert large.conv1.kernel_size == (7, 7) and large.conv1.stride == (2, 2) and isinstance(large.maxpool, nn.MaxPool2d)
    assert build_backbone("resnet18", IMAGE, stem="large").conv1.stride == (2, 2)


def test_resnet_blocks_start_as_the_identity():
    network = build_backbone("resnet50", SERIES).double().eval()
    x = torch.rand(2, 256, 9).double()
    assert torch.equal(network.layer1[1](x, None), x)
    deviation = network.layer2[0].conv2.weight.detach().std()
    assert deviation == pytest.approx((2 / (128 * 3)) ** 0.5, rel=0.03)


@pytest.mark.parametrize("name, options", [
    ("convnet", {}), ("convnet", {"kernel": 3}), ("resnet18", {"stem": "small"}), ("resnet18", {"stem": "large"}),
    ("resnet50", {}), ("mlp", {}), ("vit_tiny", SMALL_VIT | {"patch": 4}),
    ("vit_tiny", SMALL_VIT | {"patch": 4, "pool": "mean"}), ("vit_tiny", SMALL_VIT | {"patch": 3, "positions": "learned"})])
def test_a_batch_of_varying_lengths_equals_one_by_one(name, options):
    torch.manual_seed(0)
    backbone = build_backbone(name, SERIES, **options).double()
    for norm in backbone.modules():
        if isinstance(norm, BatchNorm):  # shifts that turn padding into something
            for value in (norm.bias, norm.running_mean):
                nn.init.normal_(value)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
    backbone.eval()
    lengths = torch.tensor([50, 23, 8, 1])
    x = torch.randn(4, 2, 50).double()
    x[1, :, 23:] = float("nan")  # what lies beyond must not matter
    together = backbone(x, lengths=lengths)
    for i, length in enumerate(lengths):
        alone = backbone(x[i:i + 1, :, :length], lengths=lengths[i:i + 1])
        assert torch.allclose(together.pooled[i], alone.pooled[0], atol=1e-10)
        if alone.tokens is not None:
            count = alone.tokens.shape[1]
            assert int(together.lengths[i]) == count
            assert torch.allclose(together.tokens[i, :count], alone.tokens[0], atol=1e-10)
            assert not together.tokens[i, count:].any()
    whole = backbone(x[:1])
    assert torch.allclose(whole.pooled, together.pooled[:1], atol=1e-10)


@pytest.mark.parametrize("facts, options", [
    (IMAGE, SMALL_VIT), (SERIES, SMALL_VIT | {"patch": 4}), (TABLE, SMALL_VIT),
    (Facts("volume", 9, (1, 9, 8, 8)), SMALL_VIT | {"positions": "learned", "pool": "mean"})])
def test_keep_encodes_a_subset_of_the_tokens(facts, options):
    name = "table_transformer" if facts is TABLE else "vit_tiny"
    backbone = build_backbone(name, facts, **options).double().eval()
    x = (table_rows(3) if facts is TABLE else torch.randn(3, *facts.shape)).double()
    count = torch.Size(backbone.grid(facts.shape)).numel()
    full = backbone(x, layers=(0, -1))
    assert full.tokens.shape == (3, count, 24) and [layer.shape for layer in full.layers] == [(3, count, 24)] * 2
    assert torch.allclose(backbone.transformer.norm(full.layers[1]), full.tokens, atol=1e-12)
    order = torch.stack([torch.randperm(count) for _ in range(3)])
    shuffled = backbone(x, keep=order)  # a set of tokens: their order does not matter
    assert torch.allclose(shuffled.pooled, full.pooled, atol=1e-10)
    assert torch.allclose(shuffled.tokens, full.tokens.gather(1, order[..., None].expand(-1, -1, 24)), atol=1e-10)
    part = backbone(x, keep=order[:, :2])
    assert part.tokens.shape == (3, 2, 24) and not torch.allclose(part.pooled, full.pooled)
    if facts is IMAGE:  # hidden pixels have no influence
        hidden = x.clone()
        hidden[0, :, :4, :4] += 5
        kept = torch.arange(1, count).expand(3, -1)
        assert torch.equal(backbone(x, keep=kept).pooled, backbone(hidden, keep=kept).pooled)


def test_vit_takes_other_sizes():
    for positions in ("sincos", "learned"):
        backbone = build_backbone("vit_tiny", IMAGE, positions=positions, **SMALL_VIT)
        assert backbone(torch.randn(2, 3, 15, 50)).tokens.shape == (2, 4 * 13, 24)
        full, half = (backbone.positions(grid, torch.ones(1))[0] for grid in ((8, 8), (4, 4)))
        near = full.view(8, 8, 24)[2:4, 2:4].mean((0, 1))  # a coarse cell stands where the four fine ones stand
        others = torch.cdist(half, near[None]).squeeze()
        assert others.argmin() == 5


def test_sincos_is_the_formula():
    backbone = build_backbone("vit_tiny", SERIES, patch=5, **SMALL_VIT)
    found = backbone.positions((10,), torch.ones(1, dtype=torch.float64))[0]
    for place in (0, 3, 9):
        for i in range(12):
            angle = torch.tensor(place / 10000 ** (i / 12), dtype=torch.float64)
            assert found[place, i] == pytest.approx(angle.sin()) and found[place, 12 + i] == pytest.approx(angle.cos())


def test_table_stem_codes_what_is_missing():
    backbone = build_backbone("mlp", TABLE)
    nan = float("nan")
    found = backbone.stem(torch.tensor([[nan, 2.0, -1.0, 1.0, -1.0], [0.5, nan, 3.0, 7.0, 0.0]]))
    assert found.tolist() == [[0, 2, -1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1], [0.5, 0, 3, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0]]
    for name in ("mlp", "table_transformer"):
        network = build_backbone(name, TABLE)
        network(table_rows()).pooled.sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
    plain = build_backbone("mlp", Facts("table", 9, (4,)))  # nothing is known of its columns: all numbers
    assert plain.stem(torch.tensor([[1.0, nan, 2.0, 3.0]])).tolist() == [[1, 0, 2, 3, 0, 1, 0, 0]]


def test_table_transformer_tells_missing_from_zero():
    network = build_backbone("table_transformer", TABLE, width=16, depth=1, heads=2).eval()
    zero, missing = torch.zeros(1, 5), torch.zeros(1, 5)
    missing[0, 1] = float("nan")
    assert not torch.allclose(network(zero).pooled, network(missing).pooled)


class Odd(nn.Module):
    """A user's module that gives whatever `shape` says."""

    def __init__(self, gives):
        super().__init__()
        self.gives, self.norm = gives, nn.BatchNorm1d(3)
        self.inside = nn.Dropout(0.5).eval()

    def forward(self, x):
        self.norm(x.flatten(2))
        return self.gives(x)


@pytest.mark.parametrize("gives, width, tokens", [
    (lambda x: x.mean((2, 3)), 3, None),
    (lambda x: x, 3, None),
    (lambda x: x.flatten(2).transpose(1, 2), 3, 64),
    (lambda x: {"last_hidden_state": x.flatten(2).transpose(1, 2)}, 3, 64),
    (lambda x: SimpleNamespace(last_hidden_state=x, pooler_output=x.mean((2, 3), keepdim=True) + 1), 3, None),
    (lambda x: SimpleNamespace(pooler_output=x.flatten(1)), 192, None)])
def test_any_module_becomes_a_backbone(gives, width, tokens):
    module = Odd(gives)
    backbone = build_backbone(module, Facts("image", 9, (3, 8, 8)))
    assert backbone.width == width and ("tokens" in backbone.abilities) == (tokens is not None)
    assert type(module.norm) is nn.BatchNorm1d  # the user's own stays as it was
    module = backbone.module
    assert module.training and module.norm.training and not module.inside.training
    assert type(module.norm) is BatchNorm and int(module.norm.num_batches_tracked) == 0
    x = torch.randn(2, 3, 8, 8)
    found = backbone(x)
    assert found.pooled.shape == (2, width)
    if tokens:
        assert found.tokens.shape == (2, tokens, 3) and backbone.grid((3, 8, 8)) == (tokens,)
    if width == 3:
        shift = 1.0 if isinstance(gives(x), SimpleNamespace) else 0.0
        assert torch.allclose(found.pooled, x.mean((2, 3)) + shift, atol=1e-6)


@pytest.mark.parametrize("gives, says", [
    (lambda x: (x, x), "a tuple of 2"), (lambda x: {"logits": x}, "keys logits"), (lambda x: x.sum(), "shape \\(\\)"),
    (lambda x: x.flatten(1).argmax(1, keepdim=True), "torch.int64"), (lambda x: x.view(7, 7), "cannot take a batch of shape")])
def test_what_is_no_backbone_is_explained(gives, says):
    with pytest.raises(OptionError, match=says):
        build_backbone(Odd(gives), Facts("image", 9, (3, 8, 8)))


def test_adapted_series_and_tables():
    backbone = build_backbone(nn.Sequential(nn.LazyConv1d(6, 3, stride=2, padding=1), nn.BatchNorm1d(6)), SERIES)
    conv = backbone.module
    assert backbone.width == 6 and backbone(torch.randn(2, 2, 50)).tokens.shape == (2, 25, 6)
    x = torch.randn(2, 2, 50)
    found = backbone.eval()(x, lengths=torch.tensor([50, 21]))
    assert torch.allclose(found.pooled[1], conv(F.pad(x[1:, :, :21], (0, 29)))[0, :, :11].mean(1), atol=1e-6)
    table = build_backbone(nn.Linear(5, 7), TABLE)
    assert table(table_rows()).pooled.isfinite().all() and table.width == 7
    given = build_backbone(nn.Flatten(), SERIES, example=torch.zeros(1, 2, 10))
    assert given.width == 20
    ours = build_backbone("convnet", SERIES)
    assert type(build_backbone(ours, SERIES)) is type(ours) and isinstance(given, Backbone)
    with pytest.raises(OptionError, match="option of the backbone Linear"):
        build_backbone(nn.Linear(5, 7), TABLE, depth=3)


def test_optional_families_say_what_is_missing(tmp_path):
    for family, package in (("timm", "timm"), ("hf", "transformers")):
        with pytest.raises(OptionError, match=f"{family}:.*nothing' (needs the package|could not be loaded by) {package}"):
            build_backbone(f"{family}:{tmp_path / 'nothing'}", IMAGE)


def test_hugging_face_folder(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: the hf: adapter is untested here")
    config = transformers.ViTConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=48,
                                    image_size=32, patch_size=8)
    model = transformers.ViTModel(config)
    model.save_pretrained(tmp_path)
    for pretrained in (True, False):
        backbone = build_backbone(f"hf:{tmp_path}", IMAGE, pretrained=pretrained)
        assert backbone.width == 24 and backbone.abilities == {"tokens"}
    x = torch.randn(2, 3, 32, 32)
    loaded = build_backbone(f"hf:{tmp_path}", IMAGE).eval()
    assert torch.allclose(loaded(x).pooled, model.eval()(x).pooler_output, atol=1e-6)


def test_over_runs_one_forward_a_shape_and_keeps_the_order():
    calls = []

    def fn(view):
        calls.append((tuple(view.x.shape), view.role, view.field))
        return Features(view.x.mean(2), view.x, [view.x + 1]), {"max": view.x.amax(2)}, None

    x = [torch.randn(size, 2, steps) for size, steps in ((3, 8), (3, 4), (2, 8), (3, 4), (3, 8))]
    roles, fields = ("global", "local", "strong", "local", "global"), "x x x x other".split()
    views = [View(value, role=role, field=field) for value, role, field in zip(x, roles, fields)]
    outputs = over(views, fn)
    assert calls == [((5, 2, 8), "global", "x"), ((6, 2, 4), "local", "x"), ((3, 2, 8), "global", "other")]
    for value, (features, extra, nothing) in zip(x, outputs):
        assert torch.equal(features.pooled, value.mean(2)) and torch.equal(features.layers[0], value + 1)
        assert torch.equal(extra["max"], value.amax(2)) and nothing is None and features.lengths is None
    series = [View(torch.randn(2, 1, 4), lengths=torch.tensor([i, 2])) for i in range(2)]
    assert [v.tolist() for v in over(series, lambda v: v.lengths)] == [[0, 2], [1, 2]]
    masks = torch.rand(2, 3, 2, 4) > 0.5  # [view, M, B, N]
    found = over([View(torch.ones(2, 1), masks=m) for m in masks], lambda v: v.masks.transpose(0, 1))
    assert all(torch.equal(f.transpose(0, 1), m) for f, m in zip(found, masks))
    with pytest.raises(OptionError, match="first axis"):
        over([torch.ones(2, 3)] * 2, lambda x: x.sum())


def test_ordered_pairs():
    assert list(ordered_pairs("abc", "AB")) == [("a", "B"), ("b", "A"), ("c", "A"), ("c", "B")]


def test_heads():
    mlp = Mlp(6, 8, 4, layers=3, last_bias=False)
    kinds = [type(part).__name__ for part in mlp]
    assert kinds == ["Linear", "BatchNorm", "ReLU", "Linear", "BatchNorm", "ReLU", "Linear"]
    assert [part.bias is not None for part in mlp if isinstance(part, nn.Linear)] == [False, False, False]
    plain = Mlp(6, 8, 4, norm=False)
    assert [type(part).__name__ for part in plain] == ["Linear", "ReLU", "Linear"] and plain[0].bias is not None
    last = Mlp(6, 8, 4, last_norm=True)[-1]
    assert isinstance(last, BatchNorm) and last.weight is None and len(Mlp(6, 8, 4, layers=1)) == 1

    prototypes = Prototypes(5, 7)
    assert torch.allclose(prototypes.weight.norm(dim=1), torch.ones(7))
    with torch.no_grad():
        prototypes.weight.mul_(3)
    prototypes.normalise()
    x = torch.randn(2, 5)
    assert torch.allclose(prototypes(x), x @ prototypes.weight.T)
    assert torch.allclose(prototypes.weight.norm(dim=1), torch.ones(7))

    head = DinoHead(5, 11, hidden=16, bottleneck=6).double()
    x = torch.randn(3, 5).double()
    assert head(x).abs().max() <= 1 and {name.split(".")[0] for name, _ in head.named_parameters()} == {"mlp", "last"}
    z = F.normalize(head.mlp(x), dim=1)
    for i in range(11):
        row = head.last.weight[i]
        assert torch.allclose(head(x)[:, i], z @ row / row.norm())
    head(x).sum().backward()
    radial = (head.last.weight.grad * head.last.weight.detach()).sum(1)
    assert torch.allclose(radial, torch.zeros(11).double(), atol=1e-12)  # the gain is fixed: no gradient along a row
    assert LinearHead(5, 3)(torch.randn(2, 5)).shape == (2, 3)


def test_embedder_takes_views_and_tensors():
    embedder = Embedder(build_backbone("convnet", SERIES, widths=(4, 8)), Mlp(8, 8, 3)).eval()
    x, lengths = torch.randn(3, 2, 50), torch.tensor([50, 20, 7])
    assert torch.equal(embedder(View(x)), embedder(x))
    by_hand = embedder.head(embedder.backbone(x, lengths=lengths).pooled)
    assert torch.equal(embedder(View(x, lengths=lengths)), by_hand) and not torch.equal(by_hand, embedder(x))
    assert torch.equal(Embedder(embedder.backbone)(x), embedder.backbone(x).pooled)


@pytest.mark.parametrize("hidden", [False, True])
def test_attention_multiplied_out_in_bfloat16_is_the_fused_one_and_so_are_its_gradients(hidden):
    torch.manual_seed(0)
    parts = [torch.randn(3, 2, n, 8, dtype=torch.bfloat16).requires_grad_() for n in (5, 9, 9)]
    visible = (torch.arange(9) < torch.tensor([[9], [4], [1]]))[:, None, None] if hidden else None
    exact = [p.detach().double().requires_grad_() for p in parts]
    out, expected = attend(*parts, visible), F.scaled_dot_product_attention(*exact, attn_mask=visible)
    assert out.dtype == torch.bfloat16 and torch.allclose(out.double(), expected, atol=2e-2)
    gradients = torch.autograd.grad(out.sum(), parts), torch.autograd.grad(expected.sum(), exact)
    assert all(torch.allclose(a.double(), b, atol=4e-2) for a, b in zip(*gradients, strict=True))
    if hidden:
        assert not gradients[0][2][1, :, 4:].any()  # nothing reaches the values that no query sees
