"""The report against the run that it is about, and nearest neighbours against a brute force."""

import json
import re
import shutil
from html import escape, unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selftaught.contracts import BadItem, OptionError, SelftaughtError
from selftaught.evaluation import Score
from selftaught.protocols import Cell, Table, nearest_items, write_report
from selftaught.protocols.figures import apart, number, ticks
from selftaught.protocols.report_facts import curves, read_table
from selftaught.protocols.report_items import _majority, medoids, project
from selftaught.sources import open_source
from selftaught.sources.subsets import Subset
from selftaught.stages import Run, pretrain

SCRIPT = "<script>alert(1)</script>"
CLASSES = ["slow", "<b>fast</b>"]


@pytest.fixture(scope="module")
def waves() -> np.ndarray:
    rng = np.random.default_rng(0)
    t = np.arange(32) / 32
    x = np.sin(2 * np.pi * (2 + 3 * (np.arange(60) % 2))[:, None] * t + rng.uniform(0, 6, (60, 1)))
    return (x[:, None] + rng.normal(0, 0.3, (60, 2, 32))).astype(np.float32)


@pytest.fixture(scope="module")
def trained(waves, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "run"
    options = {"backbone.widths": (8, 16), "method.hidden": 32, "health_every": 2, "log_every": 1}
    pretrain(waves, "simclr", layout="NCT", out=folder, steps=8, batch_size=16, device="cpu", progress=False, **options)
    return folder


@pytest.fixture
def run(trained, tmp_path) -> Run:
    shutil.copytree(trained, tmp_path / "run")
    return Run(tmp_path / "run")


class Odd(Subset):
    """The waves as files of their own: one cannot be decoded, one has a hostile name."""

    resident = False

    def read(self, index):
        if index == 3:
            raise BadItem("truncated file")
        return super().read(index)

    def name(self, index):
        return SCRIPT if index == 5 else f"shelf/{'left' if index < 30 else 'right'}/wave-{index:02d}.npy"


def odd(waves, labels=None, classes=None) -> Odd:
    return Odd(open_source(waves, layout="NCT"), np.arange(len(waves)), labels=labels, classes=classes)


def written(path: Path) -> tuple[str, dict]:
    return path.read_text(encoding="utf-8"), json.loads(path.with_name("report.json").read_text(encoding="utf-8"))


def text_of(html: str) -> str:
    """What a reader sees of the page, without its tags."""
    return unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.S)))


# ---- the report -----------------------------------------------------------------------------------------------------

def test_without_data_it_tells_what_the_run_folder_knows(run):
    html, facts = written(write_report(run))
    lines = run.metrics()
    for name in ("loss", "lr", "gradient_norm", "features_rank", "head_spread"):
        logged = [(line["step"], line[name]) for line in lines if name in line]
        assert logged and list(zip(facts["curves"][name]["step"], facts["curves"][name]["value"])) == logged
    assert facts["health"]["head_rank"]["last"] == [line["head_rank"] for line in lines if "head_rank" in line][-1]
    assert facts["cost"]["samples"] == run.summary["samples"] == 8 * 16
    assert facts["lineage"]["data"] == run.decisions["fingerprint"]
    assert facts["headline"]["verdict"] == "healthy"
    assert "embedding" not in facts and "No data were given" in html
    assert {d["key"]: d["value"] for d in facts["plan"]} == {k: d["value"] for k, d in run.decisions["decisions"].items()}
    seen = text_of(html)
    for key, decision in run.decisions["decisions"].items():
        assert key in seen and decision["reason"] in seen
    assert number(lines[-1]["loss"]) in seen


def test_page_is_one_file_and_the_same_every_time(run, waves):
    html, _ = written(write_report(run, waves, layout="NCT"))
    again, _ = written(write_report(run, waves, layout="NCT"))
    assert html == again
    assert not re.findall(r"(?:src|href)=\"(?!data:image/png;base64,|#)", html) and "url(" not in html and "@import" not in html
    assert not list(run.folder.glob(".report*"))


def test_labels_names_and_bad_items(run, waves):
    labels = np.arange(60) % 2
    html, facts = written(write_report(run, odd(waves, labels, CLASSES)))
    assert facts["embedding"]["items"] == 59 and facts["embedding"]["unreadable"] == 1 and facts["embedding"]["of"] == 60
    assert SCRIPT not in html and "<b>fast</b>" not in html and escape(SCRIPT) in html and escape("<b>fast</b>") in html
    assert all(p["label"] == CLASSES[p["index"] % 2] for p in facts["embedding"]["points"])
    assert 3 not in {p["index"] for p in facts["embedding"]["points"]}
    for query in facts["neighbours"]:
        assert len(query["neighbours"]) == 8
        for near in query["neighbours"]:
            assert near["same"] == (near["index"] % 2 == query["index"] % 2)
    assert 'class="item same"' in html or 'class="item differs"' in html
    assert facts["failures"]["kind"] == "disagreement" and facts["failures"]["judged"] == 59


def test_agreement_is_the_mean_share_of_the_ten_nearest(run, waves):
    labels = np.arange(60) % 2
    labels[[8, 20]] = 1  # wrong
    _, facts = written(write_report(run, odd(waves, labels, CLASSES)))
    z = np.delete(run.encoder.embed(waves), 3, axis=0).astype(np.float64)
    z, y = z / np.linalg.norm(z, axis=1, keepdims=True), np.delete(labels, 3)
    shares = []
    for i in range(59):
        order = [j for j in np.argsort(-(z @ z[i]), kind="stable") if j != i][:10]
        shares.append(np.mean(y[order] == y[i]))
    assert facts["failures"]["agreement"] == pytest.approx(np.mean(shares), abs=0.004)  # float32 may swap two equals
    pairs = [z[i] @ z[j] for i in range(59) for j in range(59) if i != j]
    assert facts["embedding"]["mean_similarity"] == pytest.approx(np.mean(pairs), abs=1e-4)
    worst = facts["failures"]["items"]
    assert [w["agreement"] for w in worst] == sorted(w["agreement"] for w in worst)
    assert worst[0]["agreement"] == pytest.approx(min(shares)) and {8, 20} <= {w["index"] for w in worst}
    assert all(w["majority"] != w["label"] for w in worst)


def test_without_labels_the_isolated_and_with_numbers_the_deviating(run, waves):
    moved = waves.copy()
    moved[7] = 40.0 * np.random.default_rng(1).normal(size=waves[7].shape)
    _, facts = written(write_report(run, moved, layout="NCT"))
    assert facts["failures"]["kind"] == "isolation" and 7 in [i["index"] for i in facts["failures"]["items"]]
    heights = np.full(60, 2.0, dtype=np.float32)
    heights[11], heights[20] = 90.0, np.nan
    _, facts = written(write_report(run, odd(waves, heights)))
    assert facts["failures"]["kind"] == "deviation"
    assert facts["failures"]["items"][0]["index"] == 11 and facts["embedding"]["labelled"] == 58


def test_quarantine_and_duplicates_are_counted_with_their_reasons(run):
    entries = [{"index": i, "name": f"<i>bad-{i}</i>.png", "reason": "zero bytes" if i % 3 else "not an image", "stream": "train"}
               for i in range(23)]
    (run.folder / "quarantine.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries) + '{"index": 9')
    summary = {**run.summary, "bad_items": 23, "duplicates": 4}
    (run.folder / "summary.json").write_text(json.dumps(summary))
    html, facts = written(write_report(run))
    assert facts["quarantine"]["bad_items"] == 23 and facts["quarantine"]["duplicates"] == 4
    assert facts["quarantine"]["reasons"] == {"zero bytes": 15, "not an image": 8}
    assert [e["index"] for e in facts["quarantine"]["first"]] == list(range(20))
    seen = text_of(html)
    assert "23 items could not be read. 4 items have the same contents" in seen and "15 × zero bytes" in seen
    assert "<i>bad-1</i>" not in html and "<i>bad-19</i>.png" in seen and "bad-20" not in seen


@pytest.mark.parametrize(("change", "verdict", "said"), [
    (lambda f: (f / "summary.json").unlink(), "stopped", "continue it with --resume"),
    (lambda f: (f / "summary.json").write_text('{"seconds": 1.0, "duplicates": 0, "collapsed": true}'), "collapsed",
     "The run was stopped at step 8."),
    (lambda f: (f / "summary.json").write_text('{"seconds": 1.0, "verdict": "It says the same of all.", "plateau": true}'), "plateau",
     "It says the same of all. The run went on to its end."),
    (lambda f: (f / "metrics.jsonl").open("a").write('{"step": 9, "loss": NaN, "lr": 0.1}\n'), "stopped",
     "became NaN or infinite: loss"),
])
def test_verdicts(run, change, verdict, said):
    change(run.folder)
    html, facts = written(write_report(run))
    assert facts["headline"]["verdict"] == verdict and said in facts["headline"]["sentence"]
    assert f"{verdict.capitalize()}." in text_of(html)


def test_a_run_without_an_encoder_says_why_there_is_no_map(run, waves):
    shutil.rmtree(run.folder / "encoder")
    html, facts = written(write_report(run, waves, layout="NCT"))
    assert "embedding" not in facts and "has no encoder" in text_of(html)


def table() -> Table:
    found = Table(ranks={"encoder": 12.5, "raw": 3.0}, cost={"encoder": 7.0}, notes=["two <items> left out"])
    for name, values in {"encoder": (0.70, 0.80), "raw": (0.40, 0.82)}.items():
        for budget, labels, value in zip((0.1, 1.0), (6, 60), values):
            found.cells.append(Cell(name, "knn", budget, labels, Score("knn", value, value - 0.03, value + 0.03, 500)))
    return found


def test_comparison_given_or_read_from_the_folder(run):
    given, facts = written(write_report(run, table=table()))
    table().save(run.folder)
    read, again = written(write_report(run))
    assert read_table(run.folder) == table()
    assert facts["table"] == again["table"] == table().to_json()
    assert facts["headline"]["winners"] == table().winners()
    assert "two &lt;items&gt; left out" in read
    rows = {m[0]: m[1] for m in re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', given)}
    best = {name: re.findall(r"[●○]?</span>\d\.\d+", row) for name, row in rows.items()}
    assert best["encoder (pretrained)"] == ["●</span>0.700", "○</span>0.800"]
    assert best["raw input"] == ["</span>0.400", "●</span>0.820"]


def test_what_was_measured_on_is_kept_and_shown(run):
    known = table()
    part = {"fingerprint": "0123456789abcdef", "items": 500}
    known.about = {"data": {"train": {"origin": "shelf/train", **part}, "test": {"origin": "shelf/<test>", **part}}, "seed": 3,
                   "draws": 2, "version": "0.1.0"}
    known.save(run.folder)
    assert read_table(run.folder) == known
    html, facts = written(write_report(run))
    assert facts["table"]["data"] == known.about["data"] and facts["table"]["seed"] == 3
    seen = "easured on shelf/<test> (500 items), with labels of shelf/train (500 items); 2 draws of labels, seed 3, version 0.1.0"
    assert seen in text_of(html) and seen in (run.folder / "evaluation.md").read_text(encoding="utf-8")


def test_equal_scores_are_all_the_best(run):
    tied = Table([Cell(name, "knn", 1.0, 60, Score("knn", 1.0, 0.9, 1.0, 30)) for name in ("encoder", "raw")])
    assert written(write_report(run, table=tied))[0].count("●</span>1.000") == 2


def test_a_damaged_comparison_is_a_sentence(run):
    (run.folder / "evaluation.json").write_text('{"cells": [{"protocol": "knn"}]}')
    with pytest.raises(SelftaughtError, match="evaluation.json cannot be read .* evaluate the run again"):
        write_report(run)


# ---- its parts ------------------------------------------------------------------------------------------------------

def test_long_curves_are_means_with_extremes():
    lines = [{"step": i + 1, "loss": float(i % 10), "epoch": 0} for i in range(1000)]
    found = curves(lines, drawn=100)["loss"]
    assert found["group"] == 10 and found["step"] == list(range(10, 1001, 10))
    assert found["value"] == [4.5] * 100 and found["low"] == [0.0] * 100 and found["high"] == [9.0] * 100


def test_figure_arithmetic():
    for low, high in ((0.0, 0.83), (8.3, 13.9), (-2e-5, 3e-4), (100.0, 12345.0)):
        marks = ticks(low, high)
        assert 2 <= len(marks) <= 6 and all(low <= m <= high for m in marks)
        assert np.allclose(np.diff(marks), marks[1] - marks[0])
    assert apart([5.0, 5.0, 30.0], 10.0, 0.0, 100.0) == [5.0, 15.0, 30.0]
    pushed = apart([98.0, 99.0, 97.0], 10.0, 0.0, 100.0)
    assert sorted(pushed) == [80.0, 90.0, 100.0] and pushed[2] == 80.0
    assert [number(v) for v in (0, None, float("nan"), 12.34567, 12345.6, 1.69e-6)] == ["0", "–", "–", "12.3", "12,346", "1.69·10⁻⁶"]


def test_map_keeps_clusters_apart_and_survives_equal_rows():
    rng = np.random.default_rng(0)
    centres = 8 * rng.normal(size=(3, 12))
    z = (centres[np.arange(90) % 3] + rng.normal(size=(90, 12))).astype(np.float32)
    places, how = project(z, 0)
    assert "t-SNE" in how and (places >= 0).all() and places.max() == 1.0
    for i in range(90):
        near = np.argsort(((places - places[i]) ** 2).sum(1))[1:6]
        assert (near % 3 == i % 3).all()
    assert sorted({m % 3 for m in medoids(z, 3, 0)}) == [0, 1, 2]
    same, how = project(np.ones((40, 4), dtype=np.float32), 0)
    assert "PCA" in how and np.isfinite(same).all() and medoids(np.ones((40, 4)), 8, 0) == [0]


# ---- neighbours -----------------------------------------------------------------------------------------------------

def test_nearest_items_equal_a_brute_force(run, waves, tmp_path):
    found = nearest_items(run.encoder, waves, "12", k=5, layout="NCT", picture=str(tmp_path / "strip.png"))
    z = run.encoder.embed(waves).astype(np.float64)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    similarity = z @ z[12]
    order = [int(i) for i in np.argsort(-similarity, kind="stable") if i != 12][:5]
    assert [n["index"] for n in found["neighbours"]] == order and found["item"] == {"index": 12, "name": "array, series 12"}
    assert [n["similarity"] for n in found["neighbours"]] == pytest.approx(similarity[order], abs=1e-5)
    strip = np.asarray(Image.open(tmp_path / "strip.png"))
    assert strip.shape[1] > 5.5 * strip.shape[0] and (strip[4, 4] == (0, 90, 160)).all() and (strip[0, 0] == 255).all()
    assert [p.name for p in tmp_path.glob("*.png")] == ["strip.png"] and not list(tmp_path.glob(".*.tmp"))
    assert nearest_items(run.encoder, waves, "series 12", k=1, layout="NCT")["item"]["index"] == 12


def test_bad_items_are_no_neighbours(run, waves):
    with pytest.warns(UserWarning, match="could not be decoded"):
        found = nearest_items(run.encoder, odd(waves), "left/wave-02", k=100)
    assert found["item"] == {"index": 2, "name": "shelf/left/wave-02.npy"}
    assert sorted(n["index"] for n in found["neighbours"]) == [i for i in range(60) if i not in (2, 3)]


@pytest.mark.parametrize(("item", "options", "sentence"), [
    ("60", {}, "There is no item 60: rows run from 0 to 59."),
    ("-1", {}, "There is no item -1: rows run from 0 to 59."),
    ("", {}, "Name an item: a row number from 0 to 59"),
    ("right", {}, "'right' fits 30 items: 'shelf/right/wave-30.npy', .*'shelf/right/wave-34.npy' and 25 more"),
    ("wave_07.npy", {}, "No item's name contains 'wave_07.npy'. The nearest names: 'shelf/left/wave-07.npy'"),
    ("3", {}, r"Item 3 \(shelf/left/wave-03.npy\) cannot be decoded"),
    ("1", {"k": 0}, "k=0 neighbours cannot be found"),
    ("1", {"picture": "strip.jpg"}, "'strip.jpg' must end in .png"),
    ("1", {"picture": "nowhere/strip.png"}, "the folder nowhere does not exist"),
])
@pytest.mark.filterwarnings("ignore:.*could not be decoded")
def test_sentences(run, waves, item, options, sentence):
    with pytest.raises(OptionError, match=sentence):
        nearest_items(run.encoder, odd(waves), item, **options)


def test_an_even_vote_is_no_disagreement():
    assert [_majority(np.array(votes), 1) for votes in ([0, 0, 1, 1], [0, 0, 1], [0, 1])] == [1, 0, 1]
