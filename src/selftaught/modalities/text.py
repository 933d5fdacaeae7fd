"""Texts: byte-pair ids, spans and words as views, a small Transformer, a bag of words to compare with, the first words as picture."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import (
    Batch,
    Clean,
    Facts,
    MultiCrop,
    Need,
    NotApplicable,
    OptionError,
    Pair,
    Patches,
    Single,
    Source,
    Transformed,
    parse,
    register,
)
from ..networks import build_backbone
from ..views.options import with_options
from ..views.text import PatchTexts, TextSide, TextSpec, TextViews, TransformedTexts
from .base import Modality, Preprocessing, ViewMaker, unreadable
from .series import sampled
from .tokenizer import HIDDEN, PADDING, SEPARATOR, SPECIALS, tokens_of, train_tokenizer, vocabulary_size

CLEAN = TextSpec()
WEAK = TextSpec(delete=(0.0, 0.1))
STRONG = TextSpec(crop=(0.4, 0.8), delete=(0.0, 0.2), mask=(0.0, 0.2), shuffle=2.0)
SEGMENT = TextSpec(delete=(0.0, 0.2), mask=(0.0, 0.2))
SAMPLE, SAMPLE_BYTES = 16384, 8 << 20  # texts and bytes that the tokenizer is trained on, at most
MOST_TOKENS = 128  # that the network sees of a text unless someone says otherwise
COVERED = 0.8  # of the sampled texts are seen whole
CANVAS = 8  # windows of a text that travel to the device where texts are longer than the window
BAG = 4096  # numbers of the raw input at most
_FEW = 64  # texts by whose size the sample is chosen
BYTES_A_TOKEN = 12  # more than any text needs, so that none is tokenised further than it can be used


class TextModality(Modality):
    """Items are the bytes of UTF-8 texts. The network sees `facts.shape` = (T,), ids int64 [B, T], 0 behind the end of a text.

    Of a longer text training shows random windows, evaluation the beginning."""

    name = "text"
    default_backbone = token_backbone = "text_transformer"
    opens_with = {"modality": "text"}
    inputs = {"vocabulary": 0}
    """vocabulary: most ids of the tokenizer (0: one for about 200 bytes of the sample, 512 to 8,192)."""

    def prepare(self, source: Source, *, resolution: int | None = None, sample: int = SAMPLE, **options: Any) -> Preprocessing:
        """Trains the tokenizer; T covers 80 of 100 sampled texts, at most 128 ids (packed ones fill whatever T is). options: `inputs`.

        statistics: tokenizer (JSON), canvas (ids of an item that travel to the device), idf a number an id, reasons."""
        asked = self.settings(options)["vocabulary"]
        if asked and asked < 300:
            raise OptionError(f"input.vocabulary={asked} is too small: every byte has an id of its own, so give at least 300.")
        texts = _sample(source, max(sample, SAMPLE))
        size = sum(len(text.encode()) for text in texts)
        tokenizer = train_tokenizer(texts, asked or vocabulary_size(size))
        tokens = tokens_of(tokenizer)
        ids = tokens.encode(texts)
        counts = np.array([len(found) for found in ids])
        if resolution is not None and resolution < 4:
            raise OptionError(f"resolution={resolution} is too short: of texts it is the most tokens that the network sees, at least 4.")
        packed, longest = getattr(source, "pack", False), int(counts.max())
        covering = MOST_TOKENS if packed else int(np.quantile(counts, COVERED))
        length = int(resolution or min(max(-(-covering // 8) * 8, 8), MOST_TOKENS))
        canvas = 2 * length if packed else max(length, min(longest, CANVAS * length))
        frequency = np.bincount(np.concatenate([np.unique(found) for found in ids]), minlength=tokens.size)
        idf = np.log((1 + len(ids)) / (1 + frequency)) + 1  # as scikit-learn has it, smoothed
        share = float((counts <= length).mean())
        reasons = [f"resolution {length}: {share:.0%} of {len(ids):,} sampled texts have no more tokens",
                   f"{tokens.size:,} ids: a byte-pair tokenizer trained on {size:,} bytes"]
        if not packed and (lost := float((counts > canvas).mean())):
            reasons.append(f"{lost:.0%} are longer than {canvas} tokens, behind which nothing is read: items of a line or paragraph would "
                           "keep it (layout=paragraph, of one file)")
        statistics = {"tokenizer": tokenizer, "canvas": int(canvas),
                      "idf": [round(float(v), 3) for v in idf], "reasons": reasons}
        facts = source.facts.with_(shape=(length,), lengths=(int(min(counts.min(), length)), length),
                                   vocabulary=tokens.size, notes=(*source.facts.notes, *(f"{reason}." for reason in reasons)))
        return Preprocessing(self.name, facts, statistics)

    def configure(self, source: Source, preprocessing: Preprocessing) -> None:
        """A packed item holds as much as the device is given."""
        if hasattr(source, "set_reach"):
            source.set_reach(preprocessing.statistics["canvas"] * BYTES_A_TOKEN // 2)

    def collate(self, items: dict[str, np.ndarray] | list[dict[str, np.ndarray]], preprocessing: Preprocessing
                ) -> tuple[dict[str, Tensor], Tensor | None]:
        """x int64 [B, canvas], hash int64 [B]; lengths int64 [B]. Texts of a packed item have a separator between them; what is longer
        than the canvas loses its end."""
        items = items if isinstance(items, list) else [{k: v[i] for k, v in items.items()} for i in range(len(items["x"]))]
        canvas, tokens = preprocessing.statistics["canvas"], tokens_of(preprocessing.statistics["tokenizer"])
        pieces = [piece for item in items for piece in _pieces(item, canvas * BYTES_A_TOKEN)]
        ids, place = tokens.encode(pieces), 0
        x, lengths = np.full((len(items), canvas), PADDING, np.int64), np.empty(len(items), np.int64)
        for row, item in enumerate(items):
            count = len(item["ends"]) if "ends" in item else 1
            whole = _separated(ids[place:place + count])[:canvas]
            place += count
            lengths[row] = len(whole)
            x[row, :len(whole)] = whole
        fields = {"x": torch.from_numpy(x)}
        if "hash" in items[0]:
            fields["hash"] = torch.from_numpy(np.array([item["hash"] for item in items], dtype=np.uint64).view(np.int64))
        return fields, torch.from_numpy(lengths)

    def views(self, need: Need, preprocessing: Preprocessing, **options: Any) -> ViewMaker:
        """Clean: the text (its beginning). Single: weak (a few words left out) or strong. Pair: strong twice, spans with words left
        out, hidden and moved; with augment=off (or none) the same text twice. Pair(asymmetric): weak and strong. MultiCrop: strong
        spans, and spans of a fifth to half (`small_crop`) at half the length; the need's own scales are areas of images and not
        used. Transformed: a weak view in four orders: as it is, halves swapped, backward, both. Patches: consecutive segments.
        Options are fields of TextSpec and hold for every view but the clean one.
        """
        if need.fields != ("x",):
            raise NotApplicable(f"text: the fields {', '.join(need.fields)} were asked for, but a text has one field, x.")
        if "augment" in options and parse(options["augment"]) is None:
            options = {**options, "augment": False}
        window = preprocessing.facts.shape[0]
        begins = torch.from_numpy(tokens_of(preprocessing.statistics["tokenizer"]).begins)
        change = lambda spec: with_options(spec, options, what="text view")  # noqa: E731
        weak, strong = TextSide(change(WEAK), window, "weak"), change(STRONG)
        large = window if not strong.augment else min(window, max(4, -(-int(window * strong.crop[1]) // 4) * 4))
        strong = TextSide(strong, large, "global")  # no wider than its spans: padding would cost as much as text
        if isinstance(need, Clean):
            sides = [TextSide(CLEAN, window, "clean", random=False)]
        elif isinstance(need, Single):
            sides = [weak if need.strength == "weak" else replace(strong, role="strong")]
        elif isinstance(need, Pair) and need.asymmetric:
            sides = [(weak, replace(strong, role="strong"))[k % 2] for k in range(need.count)]
        elif isinstance(need, Pair):
            sides = [strong] * need.count
        elif isinstance(need, MultiCrop):
            small = TextSide(replace(strong.spec, crop=strong.spec.small_crop), max(window // 2, 4), "local")
            sides = [strong] * need.large + [small] * need.small
        elif isinstance(need, Transformed) and need.kind == "turn":
            sides = [weak]
        elif isinstance(need, Patches):
            return PatchTexts(change(SEGMENT), need, begins, HIDDEN, window, whole=strong if need.whole else None)
        else:
            raise NotApplicable(f"text: {need.what} ({type(need).__name__}) cannot be supplied: a text is a run of words, and no view of "
                                "that kind is defined for it.")
        views = TextViews(sides, begins, HIDDEN)
        return TransformedTexts(views, need) if isinstance(need, Transformed) else views

    def backbone(self, facts: Facts, spec: str | nn.Module | None = None, **options: Any) -> nn.Module:
        """As of every modality; refuses in a sentence what takes numbers, or ids of another tokenizer."""
        if spec == "mlp":
            raise NotApplicable("The backbone 'mlp' takes numbers, and a text is token ids: use text_transformer.")
        if isinstance(spec, str) and spec.startswith("hf:") and options.get("pretrained", True):
            raise NotApplicable(f"The backbone '{spec}' was trained on ids of its own tokenizer, which is not the one of these texts: pass "
                                "backbone.pretrained=false for its architecture alone, or use text_transformer.")
        return build_backbone(spec or self.default_backbone, facts, example=self.example(facts), **options)

    def example(self, facts: Facts, n: int = 2) -> Tensor:
        """int64 [n, T]: random ids."""
        return torch.randint(SPECIALS, facts.vocabulary, (n, *facts.shape), generator=torch.Generator().manual_seed(0))

    def raw(self, batch: Batch, preprocessing: Preprocessing) -> Tensor:
        """float32 [B, D ≤ 4,096]: log counts of the ids weighed by their rarity (tf-idf), ids hashed where there are more; unit length."""
        weight = torch.tensor(preprocessing.statistics["idf"], dtype=torch.float32, device=batch.x.device)
        valid = torch.arange(batch.x.shape[1], device=batch.x.device) < batch.lengths[:, None]
        counts = torch.zeros(len(batch), len(weight), device=batch.x.device).scatter_add_(1, batch.x, valid.float())
        bag = torch.log1p(counts) * weight
        if bag.shape[1] > BAG:
            bag = torch.zeros(len(bag), BAG, device=bag.device).index_add_(1, torch.arange(bag.shape[1], device=bag.device) % BAG, bag)
        return F.normalize(bag, dim=1)

    def picture(self, item: dict[str, np.ndarray], preprocessing: Preprocessing, *, side: int = 96) -> np.ndarray:
        """The first words, as many as fit, dark on white."""
        from PIL import Image, ImageDraw, ImageFont

        scale = 2  # drawn larger, then reduced: smooth letters
        image = Image.new("RGB", (side * scale, side * scale), (255, 255, 255))
        pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=max(side // 9, 6) * scale)
        height, margin = int(max(side // 9, 6) * scale * 1.2), 3 * scale
        text = bytes(item["x"][:side * 16]).decode("utf-8", "ignore")
        for row, line in enumerate(_wrapped(text, lambda words: pen.textlength(words, font=font), side * scale - 2 * margin)):
            if (row + 1) * height > side * scale - margin:
                break
            pen.text((margin, margin + row * height), line, fill=(40, 40, 40), font=font)
        return np.asarray(image.resize((side, side), Image.Resampling.LANCZOS))


def _sample(source: Source, sample: int) -> list[str]:
    """Texts of evenly spaced items, at most SAMPLE_BYTES in all, bad ones passed over; of packed items the first text."""
    first = [len(item["x"]) for item in sampled(source, _FEW)]
    most = int(SAMPLE_BYTES / max(np.mean(first), 1)) if first else 0
    texts = [_pieces(item, SAMPLE_BYTES // _FEW)[0] for item in sampled(source, min(sample, max(most, _FEW)))]
    if not texts:
        raise unreadable(source)
    return texts


def _pieces(item: dict[str, np.ndarray], most: int) -> list[str]:
    """The texts of an item, each at most so many bytes."""
    raw = item["x"].tobytes()
    ends = item["ends"].tolist() if "ends" in item else [len(raw)]
    return [raw[start:min(end, start + most)].decode("utf-8", "ignore") for start, end in zip([0, *ends], ends)]


def _separated(pieces: list[np.ndarray]) -> np.ndarray:
    """Ids of several texts with a separator after each but the last."""
    if len(pieces) == 1:
        return pieces[0]
    between = np.array([SEPARATOR])
    return np.concatenate([part for piece in pieces for part in (piece, between)][:-1])


def _wrapped(text: str, width_of: Callable[[str], float], width: float) -> Iterator[str]:
    """Lines no wider than `width`; a word that is wider is broken."""
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if width_of(longer) <= width:
            line = longer
            continue
        if line:
            yield line
        while width_of(word) > width and len(word) > 1:
            fits = max(bisect_right(range(1, len(word) + 1), width, key=lambda k, w=word: width_of(w[:k])), 1)
            yield word[:fits]
            word = word[fits:]
        line = word
    yield line


register("text", kind="modality")(TextModality())
