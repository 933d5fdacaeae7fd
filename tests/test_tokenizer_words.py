"""What counts as a word of a text, which is left out, hidden and moved as one: also where no blanks are."""

import numpy as np
import pytest
import torch

pytest.importorskip("tokenizers")

from selftaught.contracts import Batch, Draws, Pair  # noqa: E402
from selftaught.modalities import find_modality  # noqa: E402
from selftaught.modalities.tokenizer import HIDDEN, tokens_of, train_tokenizer  # noqa: E402
from selftaught.sources import open_source  # noqa: E402

RNG = np.random.default_rng(0)
WORDS = ["".join(RNG.choice(list("abcdefghij"), RNG.integers(3, 8))) for _ in range(200)]
IDEOGRAPHS = [chr(0x4E00 + i) for i in range(200)]
TEXTS = {
    "blanks": [" ".join(RNG.choice(WORDS, 30)) for _ in range(150)],
    "lines": ["\n".join(RNG.choice(WORDS, 30)) for _ in range(150)],
    "tabs": ["\t".join(RNG.choice(WORDS, 30)) for _ in range(150)],
    "none": ["".join(RNG.choice(IDEOGRAPHS, 40)) + "。" for _ in range(150)],
}


@pytest.mark.parametrize("between", TEXTS)
def test_no_text_is_one_word(between):
    """Strong views hide a tenth of the tokens, wherever the words end; hardly any view is all or nothing."""
    text, source = find_modality("text"), open_source(TEXTS[between], modality="text")
    found = text.prepare(source)
    fields, lengths = text.collate([source.read(i) for i in range(150)], found)
    index = torch.arange(150)
    begins = torch.from_numpy(tokens_of(found.statistics["tokenizer"]).begins)
    assert begins[fields["x"]].sum(1).float().mean() > 15
    for view in text.views(Pair(), found)(Batch(fields, index, index, torch.zeros_like(index), None, lengths), Draws(index)):
        hidden = (view.x == HIDDEN).sum(1) / view.lengths
        assert (hidden == 1).float().mean() < 0.01 and (hidden == 0).float().mean() < 0.5 and 0.05 < hidden.mean() < 0.15


@pytest.mark.parametrize("sentence, words", [("tiếng Việt", 2), ("naïve Ωμέγα", 2), ("한국어 글", 2), ("हिन्दी शब्द", 2), ("ქართული ენა", 2),
                                             ("one\ntwo\tthree four", 4)])
def test_letters_within_a_word_begin_none(sentence, words):
    tokens = tokens_of(train_tokenizer(["a few words"] * 3, 300))  # every letter beyond ASCII is broken into its bytes
    ids, = tokens.encode([sentence])
    assert len(ids) > 10 and tokens.begins[ids].sum() == words


@pytest.mark.parametrize("sentence", ["漢字かな交じり", "ภาษาไทย", "ພາສາລາວ", "ភាសាខ្មែរ", "မြန်မာစာ", "བོད་ཡིག"])
def test_letters_of_scripts_without_blanks_are_words(sentence):
    tokens = tokens_of(train_tokenizer([sentence] * 9, 258))  # the bytes and their two commonest pairs
    ids, = tokens.encode([sentence])
    assert tokens.begins[ids].sum() >= len(sentence) - 1 and len(ids) > len(sentence)
