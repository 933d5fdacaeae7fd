"""A byte-pair tokenizer on bytes, trained on a sample of the texts and kept as JSON: any text has ids, and none is unknown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..contracts import OptionError

PADDING, HIDDEN, SEPARATOR, SPECIALS = 0, 1, 2, 3
"""Ids that no text contains: behind its end, in place of a hidden word, between two texts that are packed; and their number."""
_BYTES_A_TOKEN = 200  # of sample for each id: what is rarer would hardly be learned
_FEWEST, _MOST = 512, 8192
_BEGINS = re.compile(rb"^[ \n\r\t]|\xe0[\xb8-\xbf]|\xe1[\x80-\x82\x9e\x9f]|[\xe3-\xe9]|\xf0[\xa0-\xbf]")
"""In the bytes of an id that begins a word: a blank, or anywhere the first bytes of a character of a script that puts no blanks between
words (Thai, Lao, Tibetan; Burmese, Khmer; kana and ideographs, twice), of which every id counts as one."""
_SHOWN = [*range(33, 127), *range(161, 173), *range(174, 256)]  # bytes that a byte-level token writes as themselves
_BYTES = {byte: byte for byte in _SHOWN} | {256 + n: byte for n, byte in enumerate(b for b in range(256) if b not in _SHOWN)}


def vocabulary_size(sampled: int) -> int:
    """The power of two that gives each id about 200 bytes of the sample, 512 to 8,192, without the special ids."""
    return 1 << int(np.clip(np.log2(max(sampled / _BYTES_A_TOKEN, 1)), np.log2(_FEWEST), np.log2(_MOST)))


def train_tokenizer(texts: Iterable[str], size: int) -> str:
    """The JSON of a byte-level BPE tokenizer (Sennrich et al., 2016; Radford et al., 2019) of at most `size` ids; the same texts in the
    same order give the same one."""
    tokenizers = _library()
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=size, min_frequency=2, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str()


class Tokens:
    """A trained tokenizer. size: ids there are, the special ones included. begins: bool [size], ids that begin a word."""

    def __init__(self, described: str):
        self._tokenizer = _library().Tokenizer.from_str(described)
        self.size = self._tokenizer.get_vocab_size() + SPECIALS
        self.begins = np.zeros(self.size, dtype=bool)
        self.begins[SEPARATOR] = True
        self.begins[[i + SPECIALS for token, i in self._tokenizer.get_vocab().items() if _begins_word(token)]] = True

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """int64 [n] ids of each text."""
        return [np.array(e.ids, dtype=np.int64) + SPECIALS for e in self._tokenizer.encode_batch_fast(list(texts))]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids, special ones left out."""
        return self._tokenizer.decode([int(i) - SPECIALS for i in ids if i >= SPECIALS]).strip()


def _begins_word(token: str) -> bool:
    return _BEGINS.search(bytes(_BYTES[ord(symbol)] for symbol in token)) is not None


@lru_cache(maxsize=8)
def tokens_of(described: str) -> Tokens:
    """The tokenizer that `train_tokenizer` described."""
    return Tokens(described)


def _library() -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # else it warns wherever a process forks
    try:
        import tokenizers
    except (ImportError, OSError):
        raise OptionError("Texts need the package tokenizers, which is not installed: pip install selftaught[text].") from None
    return tokenizers
