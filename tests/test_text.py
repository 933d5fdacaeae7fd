"""Texts as a modality: tokenizer, views, the Transformer, what is stored, and that learning finds topics."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("tokenizers")

from selftaught.contracts import (  # noqa: E402
    Batch,
    Clean,
    Draws,
    Facts,
    MultiCrop,
    NotApplicable,
    OptionError,
    Pair,
    Patches,
    Single,
    Transformed,
    find,
)
from selftaught.encoder import Encoder  # noqa: E402
from selftaught.modalities import Preprocessing, find_modality  # noqa: E402
from selftaught.modalities.tokenizer import HIDDEN, SEPARATOR, SPECIALS, tokens_of, train_tokenizer, vocabulary_size  # noqa: E402
from selftaught.networks import build_backbone  # noqa: E402
from selftaught.plan import make_plan  # noqa: E402
from selftaught.sources import open_source  # noqa: E402
from selftaught.sources.generated import generated  # noqa: E402
from selftaught.testing import check_method, draft, score, source_of, train  # noqa: E402
from selftaught.views.text import TextSide, TextSpec, TextViews, turned  # noqa: E402

TEXT = find_modality("text")
FACTS = Facts("text", 8, (12,), vocabulary=40)


@pytest.fixture(scope="module")
def prepared():
    """(source, preprocessing, batch of 64) of generated texts."""
    source = source_of("text", 256)
    preprocessing = TEXT.prepare(source)
    fields, lengths = TEXT.collate([source.read(i) for i in range(64)], preprocessing)
    index = torch.arange(64)
    return source, preprocessing, Batch(fields, index, index, torch.zeros(64, dtype=torch.int64), None, lengths)


def some(**options):
    torch.manual_seed(0)
    return build_backbone("text_transformer", FACTS, **{"width": 16, "heads": 2, **options}).eval()


# ---- tokenizer -----------------------------------------------------------------------------------------------------------------


def test_any_text_survives_the_tokenizer():
    tokens = tokens_of(train_tokenizer(["the cat sat", "the dog sat on the cat"] * 20, 300))
    for text in ("the cat", "naïve Ωμέγα 漢字 🙂", "a\x1cb", "tabs\tand\nlines", "<pad> [MASK]"):
        ids, = tokens.encode([text])
        assert tokens.decode(ids) == text and ids.min() >= SPECIALS and ids.max() < tokens.size  # no text holds a special id
    ids, = tokens.encode(["the cat sat"])
    assert len(ids) == 3 and tokens.begins[ids].all() and not tokens.begins[tokens.encode(["x"])[0][1:]].any()


def test_the_tokenizer_is_the_same_in_every_process():
    code = ("from selftaught.modalities.tokenizer import train_tokenizer\nfrom selftaught.sources.generated import generated\n"
            "print(train_tokenizer(generated('text', 128)[0], 400))")
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "1"}).stdout
    assert other.strip() == train_tokenizer(generated("text", 128)[0], 400)


def test_vocabulary_grows_with_the_sample():
    assert [vocabulary_size(n) for n in (0, 10_000, 300_000, 10**9)] == [512, 512, 1024, 8192]


def test_without_tokenizers_a_sentence_says_what_to_do():
    code = ("import sys; sys.modules['tokenizers'] = None\nfrom selftaught.contracts import OptionError\n"
            "from selftaught.modalities.tokenizer import train_tokenizer\n"
            "try: train_tokenizer(['a'], 300)\nexcept OptionError as error: print(error)")
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install selftaught[text]" in said


# ---- preprocessing ---------------------------------------------------------------------------------------------------------------


def test_preprocessing_survives_json_and_collates_the_same(prepared):
    source, preprocessing, batch = prepared
    again = Preprocessing.from_json(json.loads(json.dumps(preprocessing.to_json())))
    assert again == preprocessing
    fields, lengths = TEXT.collate([source.read(i) for i in range(64)], again)
    assert torch.equal(fields["x"], batch.x) and torch.equal(lengths, batch.lengths)
    tokens = tokens_of(preprocessing.statistics["tokenizer"])
    for row in (0, 9):
        assert tokens.decode(batch.x[row]) == source.read(row)["x"].tobytes().decode()
        assert not batch.x[row, batch.lengths[row]:].any()
    assert preprocessing.facts.vocabulary == tokens.size == len(preprocessing.statistics["idf"])


def test_packed_texts_fill_the_window(prepared):
    source = open_source([text[:40] for text in generated("text", 64)[0]], layout="pack")
    preprocessing = TEXT.prepare(source, resolution=32)
    TEXT.configure(source, preprocessing)
    fields, lengths = TEXT.collate([source.read(i) for i in range(64)], preprocessing)
    assert (lengths == fields["x"].shape[1]).all() and (fields["x"] == SEPARATOR).any(1).float().mean() > 0.5
    index = torch.arange(64)
    batch = Batch(fields, index, index, torch.zeros(64, dtype=torch.int64), None, lengths)
    view, = TEXT.views(Clean(), preprocessing)(batch, batch.draws(0, "x"))
    assert (view.x != 0).all() and (view.lengths == 32).all()  # no position is padding


def test_raw_counts_are_weighed_hashed_and_of_unit_length(prepared):
    _, preprocessing, batch = prepared
    raw = TEXT.raw(batch, preprocessing)
    idf = torch.tensor(preprocessing.statistics["idf"])
    counts = torch.stack([torch.bincount(row[:n], minlength=len(idf)) for row, n in zip(batch.x, batch.lengths)])
    expected = torch.log1p(counts.float()) * idf
    assert torch.allclose(raw, expected / expected.norm(dim=1, keepdim=True), atol=1e-6)
    wide = Preprocessing("text", preprocessing.facts, {**preprocessing.statistics, "idf": [1.0] * 5000})
    assert TEXT.raw(batch, wide).shape == (64, 4096)


def test_pictures_differ_and_hold_any_text(prepared):
    source, preprocessing, _ = prepared
    a, b = (TEXT.picture(source.read(i), preprocessing, side=64) for i in (0, 1))
    assert a.shape == (64, 64, 3) and a.dtype == np.uint8 and (a != b).any() and a.min() < 128
    for text in ("x" * 500, "漢字 🙂"):
        assert TEXT.picture({"x": np.frombuffer(text.encode(), np.uint8)}, preprocessing).shape == (96, 96, 3)


# ---- views ---------------------------------------------------------------------------------------------------------------------


def test_every_need_has_one_definition(prepared):
    _, preprocessing, batch = prepared
    window = preprocessing.facts.shape[0]
    see = lambda need, **options: TEXT.views(need, preprocessing, **options)(batch, batch.draws(0, "train"))  # noqa: E731
    clean, = see(Clean(), crop=0.5)
    assert torch.equal(clean.x, batch.x[:, :window]) and torch.equal(clean.lengths, batch.lengths.clamp(max=window))
    pair = see(Pair(known=True))
    assert len(pair) == 2 and all(v.x.dtype == torch.int64 and v.applied["transform"].shape == (64, 8) for v in pair)
    assert len(torch.unique(pair[0].x, dim=0)) == 64 and not torch.equal(pair[0].x, pair[1].x)
    assert [v.role for v in see(Pair(asymmetric=True))] == ["weak", "strong"]
    assert [v.role for v in see(MultiCrop(small=3))] == ["global"] * 2 + ["local"] * 3
    assert see(Single())[0].role == "strong"
    parts = see(Patches(whole=True, aperture=1.0))
    assert [v.role for v in parts] == ["global"] + ["local"] * 3 and (parts[1].x == HIDDEN).any()
    assert [int(v.applied["class"][0]) for v in see(Transformed())] == [0, 1, 2, 3]
    same = see(Pair(), augment="none")
    assert torch.equal(same[0].x, same[1].x)  # SimCSE: dropout alone makes the difference
    with pytest.raises(NotApplicable, match="no view of that kind"):
        see(Transformed(kind="channels"))
    with pytest.raises(OptionError, match="Did you mean 'shuffle'"):
        see(Pair(), shufle=1)
    for wrong in ({"crop": (0.9, 0.1)}, {"shuffle": -1.0}):
        with pytest.raises(OptionError, match="text option"):
            TextSpec(**wrong)


def words_of(row, length, begins):
    """The words of a row as tuples of ids."""
    words = []
    for i in row[:length].tolist():
        if begins[i] or not words:
            words.append([])
        words[-1].append(i)
    return [tuple(w) for w in words]


def changed(spec, rows=4000):
    """(texts before, views after, ids that begin a word) of ten words of one to three tokens."""
    begins = torch.zeros(40, dtype=torch.bool)
    begins[20:] = True
    x = torch.tensor([[20 + k, *[3 + k] * (k % 3)][j] for k in range(10) for j in range(1 + k % 3)]).repeat(rows, 1)
    lengths, index = torch.full((rows,), x.shape[1]), torch.arange(rows)
    batch = Batch({"x": x}, index, index, torch.zeros_like(index), None, lengths)
    view, = TextViews([TextSide(spec, x.shape[1], "global")], begins, HIDDEN)(batch, batch.draws(0, "train"))
    return x, view, begins


def test_words_are_left_out_whole_and_as_often_as_asked():
    x, view, begins = changed(TextSpec(delete=(0.3, 0.3)))
    whole = words_of(x[0], x.shape[1], begins)
    left = [words_of(row, n, begins) for row, n in zip(view.x, view.lengths)]
    assert all(set(w) <= set(whole) and w == [v for v in whole if v in w] for w in left)  # whole words, in their order
    assert abs(np.mean([len(w) for w in left]) - 7.0) < 0.1
    _, view, _ = changed(TextSpec(delete=(1.0, 1.0)), rows=50)
    assert (view.lengths > 0).all()  # one word stays


def test_words_are_hidden_whole():
    x, view, begins = changed(TextSpec(mask=(0.2, 0.2)))
    hidden = view.x == HIDDEN
    assert torch.equal(torch.where(hidden, x, view.x), x) and abs(float(hidden[:, begins[x[0]]].float().mean()) - 0.2) < 0.01
    word = begins[x[0]].cumsum(0)
    for k in range(1, 11):
        assert (hidden[:, word == k].all(1) == hidden[:, word == k].any(1)).all()


def test_words_move_by_less_than_the_window():
    x, view, begins = changed(TextSpec(shuffle=3.0), rows=500)
    whole = words_of(x[0], x.shape[1], begins)
    moved = [[whole.index(w) for w in words_of(row, x.shape[1], begins)] for row in view.x]
    assert all(sorted(m) == list(range(10)) and max(abs(i - j) for i, j in enumerate(m)) < 4 for m in moved)
    assert np.mean([m != list(range(10)) for m in moved]) > 0.9


def test_spans_lie_within_the_text_and_are_as_long_as_asked():
    x, view, _ = changed(TextSpec(crop=(0.5, 0.5)))
    text = x[0].tolist()
    for row, n, (low, high) in zip(view.x[:200], view.lengths, view.positions):
        start = round(float(low) * len(text))
        assert int(n) == -(-len(text) // 2) and row[:n].tolist() == text[start:start + int(n)] and high <= 1
    assert len(torch.unique(view.positions[:, 0])) == len(text) // 2 + 1


def test_orders_are_permutations_that_can_be_told_apart():
    x = torch.tensor([[3, 4, 5, 6, 7, 0, 0]]).repeat(4, 1)
    found = turned(x, torch.full((4,), 5), torch.arange(4))
    assert found.tolist() == [[3, 4, 5, 6, 7, 0, 0], [5, 6, 7, 3, 4, 0, 0], [7, 6, 5, 4, 3, 0, 0], [4, 3, 7, 6, 5, 0, 0]]


# ---- network -------------------------------------------------------------------------------------------------------------------


def test_texts_of_many_lengths_equal_one_by_one():
    network = some(dropout=0.5).double()
    lengths = torch.tensor([12, 5, 1, 8])
    x = torch.randint(3, 40, (4, 12)).masked_fill(torch.arange(12) >= lengths[:, None], 0)
    together = network(x, lengths=lengths)
    for row, n in enumerate(lengths):
        alone = network(x[row:row + 1, :n], lengths=lengths[row:row + 1])
        assert torch.allclose(together.pooled[row], alone.pooled[0], atol=1e-12)
        assert torch.allclose(together.tokens[row, :n], alone.tokens[0], atol=1e-12)
    assert torch.equal(network(x).pooled, together.pooled)  # padding says where a text ends
    garbage = torch.where(torch.arange(12) >= lengths[:, None], 7, x)
    assert torch.allclose(network(garbage, lengths=lengths).pooled, together.pooled)


def test_subsets_masks_and_layers():
    network, x = some(), torch.randint(3, 40, (2, 12))
    keep = torch.arange(12).expand(2, 12)
    assert torch.allclose(network(x, keep=keep).pooled, network(x).pooled, atol=1e-6)
    assert network(x, keep=keep[:, 3:7]).tokens.shape == (2, 4, 16) and network.grid((2, 12)) == (12,)
    assert [layer.shape for layer in network(x, layers=(0, -1)).layers] == [(2, 12, 16)] * 2
    masked = torch.zeros(2, 12, dtype=torch.bool)
    masked[0, 3] = True
    token = torch.ones(16)
    a = network(x, masked=masked, mask_token=token).tokens
    x[0, 3] = 5
    assert torch.equal(a, network(x, masked=masked, mask_token=token).tokens)  # what is hidden is not seen
    signal = network.signal()
    assert signal(x, torch.tensor([12, 4]))[1, :, 0].isnan().tolist() == [False] * 4 + [True] * 8 and signal.width == 40


def test_dropout_makes_views_of_one_text_differ_in_training_only():
    network, x = some(), torch.randint(3, 40, (2, 12))
    assert torch.equal(network(x).pooled, network(x).pooled)
    network.train()
    assert not torch.equal(network(x).pooled, network(x).pooled)


def test_backbones_that_do_not_suit_texts_are_refused():
    for name in ("mlp", "convnet", "vit_tiny", "table_transformer", "dilated", "hf:bert-base-uncased"):
        with pytest.raises(NotApplicable):
            TEXT.backbone(FACTS, name)
    with pytest.raises(NotApplicable, match="needs token ids"):
        build_backbone("text_transformer", Facts("series", 8, (2, 12)))


class Ids(torch.nn.Module):
    """A user's module over ids, in the manner of Hugging Face."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(40, 6)

    def forward(self, input_ids, attention_mask=None):
        weight = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return {"last_hidden_state": self.table(input_ids) * weight[..., None]}


def test_a_module_of_the_users_own_gets_ids_and_an_attention_mask():
    network = TEXT.backbone(FACTS, Ids())
    x, lengths = torch.randint(3, 40, (2, 12)), torch.tensor([12, 3])
    assert network.width == 6
    expected = network.module.table(x[1, :3]).mean(0)
    assert torch.allclose(network(x, lengths=lengths).pooled[1], expected, atol=1e-6)


# ---- methods ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dino", "msn", "rotation", "deepcluster"])
def test_methods_run_on_texts(method):
    """Those that see other things than pairs; `make conformance` checks all of them."""
    source = source_of("text", 128)
    method, outcome = train(draft(method, "text", source, batch_size=32), source, steps=3)
    assert np.isfinite(outcome.losses).all() and len(outcome.losses) == 3


def test_what_every_method_must_hold_holds_on_texts():
    checks = check_method("jigsaw", modalities=("text",), learns=False, two_processes=False)
    assert {c.name for c in checks if c.holds} >= {"gradients finite and non-zero", "resume equals uninterrupted", "parameters round-trip"}


def test_simclr_finds_the_topics():
    """And the same run with pairs shuffled anew every step, the broken objective, does not."""
    source, test = source_of("text", 384), source_of("text", 192, seed=1)
    plan = draft("simclr", "text", source, steps=40, lr=8e-3, **{"backbone.depth": 1})
    start = score(plan, plan.build_method(), source, test)
    trained = score(plan, train(plan, source)[0], source, test)
    broken = score(plan, train(plan, source, broken=True, stop_on_collapse=False)[0], source, test)
    assert trained > start + 0.1 and trained > broken + 0.1, (trained, start, broken)


def test_an_encoder_embeds_strings_and_round_trips(tmp_path):
    source = source_of("text", 128)
    plan = draft("simclr", "text", source)
    assert plan["num_workers"] == 0
    method, _ = train(plan, source, steps=2)
    encoder = Encoder(method.kept(), plan.preprocessing, backbone_name="text_transformer", backbone_options=plan.nested["backbone"])
    again = Encoder.load(encoder.save(tmp_path / "encoder"))
    assert np.array_equal(again.embed(["yes", "bodita no"]), encoder.embed(["yes", "bodita no"]))  # opened as texts: nothing else is said
    with pytest.warns(UserWarning, match="empty text"):
        assert np.isnan(encoder.embed(["yes", ""])[1]).all()
    assert encoder.embed(["yes"], tokens=True).shape == (1, plan.facts.shape[0], encoder.width)
    assert len(set(encoder.contents(source))) == 128 and encoder.raw(source).shape[0] == 128


def test_an_exported_graph_takes_ids(tmp_path):
    pytest.importorskip("onnxruntime")
    preprocessing = Preprocessing("text", FACTS, {})
    assert Encoder(some(), preprocessing).export_onnx(tmp_path / "text.onnx") < 1e-4


def test_the_plan_says_what_it_found():
    lines = "\n".join(make_plan(source_of("text", 128), {"steps": 1, "resolution": 16}).lines())
    assert "text_transformer" in lines and "byte-pair" in lines and "each 16" in lines
    with pytest.raises(OptionError, match="at least 4"):
        make_plan(source_of("text", 128), {"steps": 1, "resolution": 2})


def test_draws_are_of_the_item_not_of_its_batch(prepared):
    _, preprocessing, batch = prepared
    views = TEXT.views(Pair(), preprocessing)
    whole = views(batch, batch.draws(0, "train"))
    rows = torch.tensor([40, 3, 17])
    part = TEXT.take(batch, rows)
    assert all(torch.equal(a.x[rows], b.x) for a, b in zip(whole, views(part, part.draws(0, "train"))))
    assert isinstance(batch.draws(0, "train"), Draws) and find("modality", "text") is TEXT
