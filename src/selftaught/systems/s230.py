"""S230, BootBERT: a language model that also predicts a teacher's embeddings knows as much of grammar, without collapse."""

from .arms import DATA, data_file
from .proof import Arm, Claim, Proof

FORMS = {"verb": ("is are", "was were", "has have"),
         "noun": ("man men", "woman women", "boy boys", "girl girls", "dog dogs", "child children", "person people"),
         "article": ("a an",)}
"""Paradigm → pairs of words, one of which is wrong where the other is right."""


def captions(rest: str):
    """(29,000 English captions of Multi30k, the 1,000 of its test)."""
    import pyarrow.parquet as parquet

    from ..sources import open_source

    table = parquet.read_table(data_file("text", "multi30k_en_de_fr_cs.parquet"), columns=["split", "en"]).to_pydict()
    parts = [[text for split, text in zip(table["split"], table["en"]) if split.startswith(part)] for part in ("train", rest)]
    return tuple(open_source(part, modality="text") for part in parts)


DATA["captions"] = captions


def minimal_pairs(texts: list[str], tokens, length: int) -> dict:
    """Paradigm → (good, bad: int64 [n, length] ids, differ: int64 [n, k] the places where they do), of texts of at most `length` tokens.

    order: two neighbouring words of small letters change places; at most 4,000, evenly spaced among all. The others: a word becomes the
    other of its pair in `FORMS`, as often one way as the other. All of these words are one token."""
    import numpy as np

    pairs = [pair.split() for paradigm in FORMS.values() for pair in paradigm]
    id_of = {word: tokens.encode([word])[0] for pair in pairs for word in pair}
    other = {w: v for pair in pairs for w, v in (pair, pair[::-1]) if len(id_of[w]) == len(id_of[v]) == 1}
    order, changed = [], {word: [] for word in other}
    for ids in tokens.encode(texts):
        if len(ids) > length:
            continue
        row, starts = np.pad(ids, (0, length - len(ids))), np.append(tokens.begins[ids], True)
        words = [tokens.decode([i]) if alone else "" for i, alone in zip(ids, starts[:-1] & starts[1:])]
        for place, (word, after) in enumerate(zip(words, [*words[1:], ""])):
            bad = row.copy()
            if word.isalpha() and word.islower() and after.isalpha() and after.islower() and word != after:
                bad[[place, place + 1]] = row[[place + 1, place]]
                order.append((row, bad.copy(), [place, place + 1]))
                bad[:] = row
            if word in other:
                bad[place] = id_of[other[word]][0]
                changed[word].append((row, bad, [place]))
    found = {"order": [order[i] for i in np.linspace(0, len(order) - 1, min(4000, len(order))).astype(int)]}
    for name, paradigm in FORMS.items():
        ways = [word for word in " ".join(paradigm).split() if word in other]
        found[name] = [pair for word in ways for pair in changed[word][: min(len(changed[word]), len(changed[other[word]]))]]
    return {name: tuple(np.array(part, np.int64) for part in zip(*pairs)) for name, pairs in found.items() if pairs}


def grammar(trained) -> dict[str, float]:
    """A part for every paradigm: how often the good text has the higher pseudo-log-likelihood, each differing token being hidden in turn;
    pairs: their mean; fewest: pairs of the smallest paradigm. variance: of the teacher's normalised embeddings over the tokens of 256
    test texts, mean over channels; at most about 1, 0 where all tokens are one."""
    import numpy as np
    import torch
    import torch.nn.functional as F

    from ..modalities.tokenizer import tokens_of

    method, preprocessing = trained.method(), trained.run.encoder.preprocessing
    tokens, length = tokens_of(preprocessing.statistics["tokenizer"]), preprocessing.facts.shape[0]
    texts = [trained.test.read(i)["x"].tobytes().decode() for i in range(len(trained.test))]

    def likelihood(ids, places):
        total = 0.0
        for place in places.T:
            found = []
            for x, at in zip(torch.from_numpy(ids).split(500), torch.from_numpy(place).split(500)):
                masked = F.one_hot(at, length).bool()
                hidden = method.student.backbone(x, lengths=(x != 0).sum(1), masked=masked, mask_token=method.mask_token).tokens[masked]
                found.append(method.model(hidden).log_softmax(1).gather(1, x[masked][:, None])[:, 0])
            total = total + torch.cat(found)
        return total

    pairs = minimal_pairs(texts, tokens, length)
    with torch.no_grad():
        result = {name: float((likelihood(good, differ) > likelihood(bad, differ)).double().mean())
                  for name, (good, bad, differ) in pairs.items()}
        some = [ids[:length] for ids in tokens.encode(texts[:256])]
        x = torch.from_numpy(np.stack([np.pad(ids, (0, length - len(ids))) for ids in some]))
        embedded = method.teacher.backbone(x, lengths=(x != 0).sum(1)).tokens[x != 0]
    variance = float(F.layer_norm(embedded, embedded.shape[-1:]).var(0).mean())
    return {"pairs": sum(result.values()) / len(result), **result, "variance": variance, "fewest": min(len(p[0]) for p in pairs.values())}


KEY = "captions-test"
SAME = {"backbone": "text_transformer", "backbone.width": 64, "backbone.depth": 2, "backbone.heads": 4, "backbone.dropout": 0.0,
        "resolution": 24, "batch_size": 128, "views.augment": "off", "steps": 200}

PROOF = Proof(
    id="S230",
    statement="A small language model that predicts a teacher's embeddings of hidden tokens besides their names tells grammatical texts "
              "from ungrammatical ones no worse than one that predicts names alone.",
    works_when="After equal steps on a small corpus the accuracy on minimal pairs with latent bootstrapping and masked language modelling "
               "is above chance, and not more than a point below that of masked language modelling alone; the teacher's embeddings keep "
               "their variance.",
    arms=(
        Arm("latent and names", "bootbert", KEY, SAME, "subject", 60, (grammar,)),
        Arm("names alone", "bootbert", KEY, SAME | {"method.latent": 0.0}, "ablation", 60, (grammar,)),
    ),
    claims=(
        Claim("The accuracy on minimal pairs, mean of four paradigms, lies above chance.", "pairs", "latent and names", kind="threshold",
              margin=0.5),
        Claim("It lies at most one point below that of masked language modelling alone.", "pairs", "latent and names", "names alone",
              "not worse", 0.01),
        Claim("The variance of the teacher's normalised embeddings between tokens stays above a tenth.", "variance", "latent and names",
              kind="threshold", margin=0.1),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="200 steps of 128 captions of at most 24 tokens, a Transformer of 2 blocks of width 64, at most 60 s an arm on one core; the "
           "recipe of short runs in both",
    data="real",
    substitutions="29,000 captions (Multi30k, English) for BabyLM's ten million words: sentences simple enough to be learned from in "
                  "a minute (in one run on WikiText-2 the model hardly got beyond the frequency of words); a byte-pair tokenizer of "
                  "4,096. Minimal pairs made by rule from the 1,000 test captions for BLiMP: neighbouring words exchanged, and another "
                  "form of a verb, a noun or the article, as often one way as the other. Mask tokens go through the encoder, for an "
                  "encoder of what is visible and a decoder; both terms have the weight 1, for 1 and .1, and 30 % is hidden, for 15 %. "
                  "That rate and width learn at all was seen in one run on the validation captions, which are used for nothing else.",
    omissions="The row's seeds are three, here five. That the row does not know the mechanism for certain is settled by the authors' code: "
              "smooth L1 to the normalised last layer of a teacher that sees the whole text.",
)
