"""Series and table modalities: what is fitted, items to tensors, one definition of every need, raw input, pictures."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from selftaught.contracts import (
    BadItem,
    Batch,
    Clean,
    Column,
    DataError,
    Draws,
    Facts,
    MultiCrop,
    Need,
    NotApplicable,
    OptionError,
    Pair,
    Single,
    Source,
)
from selftaught.modalities import Preprocessing, find_modality
from selftaught.modalities.series import SeriesModality
from selftaught.modalities.table import TableModality

SERIES, TABLE = SeriesModality(), TableModality()
COLUMNS = (Column("age", "numeric"), Column("gain", "numeric"), Column("member", "boolean"),
           Column("colour", "categorical", ("blue", "green", "red")), Column("town", "categorical", ("A", "B")))


class Items(Source):
    """A list of items, some of which cannot be read."""

    def __init__(self, modality, items, shape, *, bad=(), resident=False, **facts):
        self.modality, self.items, self.bad, self.resident = modality, items, set(bad), resident
        self.facts = Facts(modality, len(items), shape, **facts)

    def read(self, index):
        if index in self.bad:
            raise BadItem("torn")
        return self.items[index]

    def take(self, indices):
        fields = {name: [self.items[i][name] for i in indices] for name in self.items[0]}
        if len({v.shape for v in fields.get("x", [])}) > 1:
            ragged = np.empty(len(indices), object)
            ragged[:] = fields["x"]
            return {"x": ragged}
        return {name: np.stack(values) for name, values in fields.items()}

    def align(self, columns):
        self.aligned = columns


def series_source(n=30, lengths=None, **options):
    rng = np.random.default_rng(0)
    lengths = [50] * n if lengths is None else lengths
    items = [{"x": (rng.normal(size=(3, t)) * [[2], [0.1], [5]] + [[10], [-1], [0]]).astype(np.float32)} for t in lengths]
    return Items("series", items, (3, max(lengths)), lengths=(min(lengths), max(lengths)) if len(set(lengths)) > 1 else None,
                 **options)


def table_source(n=3000, **options):
    rng = np.random.default_rng(0)
    numbers = np.stack([rng.normal(40, 12, n), rng.pareto(1.0, n) * 1000, rng.integers(0, 2, n)], 1).astype(np.float32)
    numbers[rng.random((n, 3)) < 0.1] = np.nan
    codes = np.stack([rng.integers(-1, 3, n), rng.integers(0, 2, n)], 1)
    items = [{"numeric": a, "codes": b} for a, b in zip(numbers, codes)]
    return Items("table", items, (5,), columns=COLUMNS, **options)


def batch_of(modality, source, preprocessing, count=12):
    index = torch.arange(count)
    fields, lengths = modality.collate([source.read(i) for i in range(count)], preprocessing)
    return Batch(fields, index, index, torch.zeros_like(index), lengths=lengths)


@dataclass
class Case:
    modality: object
    source: Source

    def __post_init__(self):
        self.preprocessing = self.modality.prepare(self.source)
        self.batch = batch_of(self.modality, self.source, self.preprocessing)

    def see(self, need, **options):
        return self.modality.views(need, self.preprocessing, **options)(self.batch, self.batch.draws(0, "train"))


@pytest.fixture(params=["series", "ragged", "table"], scope="module")
def case(request):
    if request.param == "table":
        return Case(TABLE, table_source())
    return Case(SERIES, series_source(lengths=[20 + i for i in range(30)] if request.param == "ragged" else None))


def test_modalities_are_found_by_name():
    assert isinstance(find_modality("series"), SeriesModality) and isinstance(find_modality("table"), TableModality)
    assert find_modality("image").name == "image"
    with pytest.raises(OptionError, match="Did you mean 'table'"):
        find_modality("tabel")


ROLES = [
    (Clean(), ["clean"], ["clean"]),
    (Single(strength="weak"), ["weak"], ["weak"]),
    (Single(strength="strong"), ["strong"], ["strong"]),
    (Pair(), ["global", "global"], ["global", "global"]),
    (Pair(asymmetric=True), ["weak", "strong"], ["clean", "strong"]),
    (MultiCrop(large=2, small=3), ["global"] * 2 + ["local"] * 3, ["global"] * 2 + ["local"] * 3),
]


@pytest.mark.parametrize("need,series,table", ROLES, ids=["clean", "weak", "strong", "pair", "asymmetric", "crops"])
def test_every_need_has_one_definition(case, need, series, table):
    seen = case.see(need)
    assert [v.role for v in seen] == (table if case.modality is TABLE else series)
    clean = case.see(Clean())[0].x
    for view in seen:
        assert view.x.dtype == torch.float32 and view.x.shape[:-1] == clean.shape[:-1]
        short = view.role == "local" and case.modality is SERIES
        assert view.x.shape[-1] == (24 if short else clean.shape[-1])
        assert torch.equal(view.x, clean) or view.role != "clean" or clean.isnan().any()
        assert (view.lengths is None) == (case.batch.lengths is None)
        if case.modality is SERIES:
            assert view.x.isfinite().all() and view.positions.shape == (12, 2)
    again = case.see(need)
    assert all(torch.equal(a.x.nan_to_num(9.0), b.x.nan_to_num(9.0)) for a, b in zip(seen, again))
    for i, a in enumerate(seen):
        for b in seen[i + 1 :]:
            assert a.x.shape != b.x.shape or not torch.equal(a.x.nan_to_num(9.0), b.x.nan_to_num(9.0))


def test_clean_views_ignore_options_and_unknown_options_are_named(case):
    option = {"jitter_p": 1.0} if case.modality is SERIES else {"noise": 1.0}
    plain = case.see(Clean())[0].x.nan_to_num(9.0)
    assert torch.equal(case.see(Clean(), **option)[0].x.nan_to_num(9.0), plain)
    assert not torch.equal(case.see(Single(strength="weak"), **option)[0].x.nan_to_num(9.0), plain)
    with pytest.raises(OptionError, match="Did you mean"):
        case.see(Clean(), **{next(iter(option)) + "s": 1})


def test_a_need_that_cannot_be_supplied_is_refused_with_the_reason(case):
    class Rotations(Need):
        what = "the item turned by quarter turns"

    with pytest.raises(NotApplicable, match=f"{case.modality.name}: the item turned .* cannot be supplied: "):
        case.see(Rotations())
    with pytest.raises(NotApplicable, match="one field, x"):
        case.see(Pair(fields=("x", "caption")))


def test_preprocessing_survives_json(case):
    back = Preprocessing.from_json(json.loads(json.dumps(case.preprocessing.to_json())))
    seen = case.modality.views(Single(), back)(case.batch, case.batch.draws(0, "train"))[0]
    assert torch.equal(seen.x.nan_to_num(9.0), case.see(Single())[0].x.nan_to_num(9.0))


def test_a_resident_source_and_bad_items_give_the_same_fit(case):
    resident = table_source(resident=True) if case.modality is TABLE else series_source(
        lengths=[item["x"].shape[1] for item in case.source.items], resident=True)
    assert case.modality.prepare(resident).statistics == case.preprocessing.statistics
    index = np.arange(12)
    fields, lengths = case.modality.collate(resident.take(index), case.preprocessing)
    assert torch.equal(fields["x"].nan_to_num(9.0), case.batch.x.nan_to_num(9.0))
    assert lengths is None if case.batch.lengths is None else torch.equal(lengths, case.batch.lengths)
    case.source.bad = {0, 3}
    skipped = case.modality.prepare(case.source).statistics
    case.source.bad = set()
    assert skipped["mean"] != case.preprocessing.statistics["mean"]
    np.testing.assert_allclose(skipped["mean"], case.preprocessing.statistics["mean"], rtol=0.2, atol=0.1)


def test_raw_input_is_finite_and_flat(case):
    raw = case.modality.raw(case.batch, case.preprocessing)
    assert raw.dtype == torch.float32 and raw.isfinite().all()
    assert raw.shape == (12, 8 if case.modality is TABLE else 3 * case.preprocessing.facts.shape[1])


def test_pictures_show_something_and_differ(case):
    one, two = (case.modality.picture(case.source.read(i), case.preprocessing, side=64) for i in (0, 1))
    assert one.shape == (64, 64, 3) and one.dtype == np.uint8
    assert 0.005 < (one < 200).any(-1).mean() < 0.9 and not np.array_equal(one, two)


def test_series_statistics_ignore_what_is_missing():
    source = series_source(lengths=[10 + 3 * i for i in range(30)])
    rng = np.random.default_rng(5)
    for item in source.items:
        item["x"][rng.random(item["x"].shape) < 0.2] = rng.choice([np.nan, np.inf])
    everything = np.concatenate([item["x"] for item in source.items], 1).astype(np.float64)
    everything[~np.isfinite(everything)] = np.nan
    found = SERIES.prepare(source).statistics
    np.testing.assert_allclose(found["mean"], np.nanmean(everything, 1), rtol=1e-9)
    np.testing.assert_allclose(found["std"], np.nanstd(everything, 1), rtol=1e-9)


def test_series_sample_is_evenly_spaced_and_constant_channels_have_scale_one():
    items = [{"x": np.stack([np.full(4, 7.0), np.full(4, i)]).astype(np.float32)} for i in range(101)]
    found = SERIES.prepare(Items("series", items, (2, 4)), sample=11).statistics
    assert found["std"][0] == 1.0 and found["mean"] == [7.0, 50.0]
    np.testing.assert_allclose(found["std"][1], np.std(np.arange(0, 101, 10)))
    with pytest.raises(DataError, match="finite"):
        SERIES.prepare(Items("series", [{"x": np.full((1, 5), np.nan, np.float32)}] * 3, (1, 5)))


def test_series_are_padded_cropped_and_windowed():
    source = series_source(lengths=[20, 60, 100])
    plain = SERIES.prepare(source)
    assert plain.facts.shape == (3, 100) and plain.facts.lengths == (20, 100)
    fields, lengths = SERIES.collate(source.items, plain)
    assert fields["x"].shape == (3, 3, 100) and lengths.tolist() == [20, 60, 100] and not fields["x"][0, :, 20:].any()
    window = SERIES.prepare(source, resolution=16)
    assert window.facts.shape == (3, 16) and window.facts.lengths is None
    batch = batch_of(SERIES, source, window, 3)
    views = SERIES.views(Pair(), window)(batch, batch.draws(0, "train"))
    assert [v.x.shape for v in views] == [(3, 3, 16)] * 2 and SERIES.raw(batch, window).shape == (3, 48)
    long = series_source(lengths=[1000, 500, 500])
    tiny = SERIES.prepare(long, resolution=8)
    assert SERIES.collate(long.items, tiny)[0]["x"].shape == (3, 3, 64)
    assert SERIES.collate(long.items, tiny)[1] is None  # the middle of each fills what travels
    assert np.array_equal(SERIES.collate(long.items, tiny)[0]["x"][0], long.items[0]["x"][:, 468:532])
    assert SERIES.prepare(source, resolution=500).facts.shape == (3, 100)
    with pytest.raises(OptionError, match="at least 4"):
        SERIES.prepare(source, resolution=2)


def test_series_and_rows_of_another_width_are_refused():
    with pytest.raises(DataError, match="2 channels where the encoder was made for 3"):
        SERIES.collate([{"x": np.zeros((2, 50), np.float32)}], SERIES.prepare(series_source()))
    with pytest.raises(DataError, match="4 columns .* for 5"):
        TABLE.collate([{"numeric": np.zeros(3, np.float32), "codes": np.zeros(1, np.int64)}], TABLE.prepare(table_source(50)))


def test_table_statistics_and_marginals_come_from_the_sample():
    source = table_source()
    found = TABLE.prepare(source, sample=3000)
    numbers = np.stack([item["numeric"] for item in source.items]).astype(np.float64)
    np.testing.assert_allclose(found.statistics["mean"], np.nanmean(numbers, 0), rtol=1e-9)
    np.testing.assert_allclose(found.statistics["std"], np.nanstd(numbers, 0), rtol=1e-9)
    marginal = found.statistics["marginal"]
    assert len(marginal) == 1024 and len(marginal[0]) == 5
    rows = {tuple(None if np.isnan(v) else float(v) for v in [*item["numeric"], *item["codes"]]) for item in source.items}
    assert all(tuple(None if v is None else float(np.float32(v)) for v in row) in rows for row in marginal)
    wide = Items("table", [{"numeric": np.arange(2000, dtype=np.float32) + i} for i in range(500)], (2000,),
                 columns=tuple(Column(f"c{i}", "numeric") for i in range(2000)))
    assert len(TABLE.prepare(wide).statistics["marginal"]) == 100


def test_table_views_hold_what_the_needs_promise():
    case = Case(TABLE, table_source())
    for view in case.see(Pair()):
        assert 2 <= view.applied["corrupted"].sum(1).min() and view.applied["corrupted"].sum(1).max() == 3  # .3 … .6 of 5
    clean, corrupted = case.see(Pair(asymmetric=True))
    assert not clean.applied and (corrupted.applied["corrupted"].sum(1) == 3).all()
    large, thin = case.see(MultiCrop(large=1, small=1))
    assert large.applied["corrupted"].sum(1).max() <= 2
    assert ((thin.x.isnan()) | (thin.x == -1)).sum(1).min() >= 2
    assert (case.see(Single(strength="strong"), corrupt="0.2")[0].applied["corrupted"].sum(1) == 1).all()


def test_another_table_is_aligned_where_its_source_can():
    case = Case(TABLE, table_source(100))
    TABLE.configure(case.source, case.preprocessing)
    assert case.source.aligned == COLUMNS
    TABLE.configure(Source(), case.preprocessing)  # one that cannot is left as it is
    raw = TABLE.raw(case.batch, case.preprocessing)
    codes = np.stack([case.source.read(i)["codes"] for i in range(12)])
    assert torch.equal(raw[:, 3:6].argmax(1)[codes[:, 0] >= 0], torch.from_numpy(codes[:, 0])[codes[:, 0] >= 0])
    assert not raw[codes[:, 0] < 0][:, 3:6].any() and (raw[:, 6:].sum(1) == 1).all()


@pytest.mark.parametrize("name,shape", [("BasicMotions", (6, 100)), ("JapaneseVowels", (12, 25)), ("GunPoint", (1, 150))])
def test_real_series_keep_their_neighbours_under_the_default_views(name, shape):
    """A view of an item lies nearer to its own item than to most others: what is shared by a pair is not destroyed."""
    root = os.environ.get("SELFTAUGHT_DATA")
    if not root or not (Path(root) / f"timeseries/{name}.npz").exists():
        pytest.skip(f"timeseries/{name}.npz is not there: set SELFTAUGHT_DATA to the folder of real data")
    x = np.load(Path(root) / f"timeseries/{name}.npz")["X_train"].astype(np.float32)[:64]
    source = Items("series", [{"x": item} for item in x], shape)
    preprocessing = SERIES.prepare(source)
    batch = batch_of(SERIES, source, preprocessing, len(x))
    spectrum = lambda v: torch.fft.rfft(v).abs().flatten(1)  # noqa: E731
    clean = spectrum(SERIES.views(Clean(), preprocessing)(batch, Draws(batch.index))[0].x)
    view = spectrum(SERIES.views(Single(strength="weak"), preprocessing)(batch, batch.draws(0, "train"))[0].x)
    distance = torch.cdist(view, clean)
    rank = (distance < distance.diagonal()[:, None]).float().mean(1)
    assert rank.mean() < 0.25


def test_settings_of_the_input_reach_the_network():
    """`input.NAME` of a run; what a modality does not know, and one that has none, is a sentence."""
    from selftaught.plan import make_plan
    from selftaught.testing import source_of

    sound, words, rows = (source_of(name, 32) for name in ("audio", "text", "table"))
    assert make_plan(sound, {"input.mels": "20"}).facts.shape[:2] == (1, 20)
    assert len(make_plan(sound, {"input.form": "waveform"}).facts.shape) == 2
    plan = make_plan(words, {"input.vocabulary": 300})
    assert plan.facts.vocabulary <= 300 + 3 and "input.vocabulary" in plan.to_json()
    for source, options, said in ((sound, {"input.mel": 20}, "Did you mean 'mels'"), (rows, {"input.mels": 20}, "leave out input.mels"),
                                  (words, {"input.vocabulary": 20}, "at least 300"), (sound, {"input.mels": "many"}, "input.mels"),
                                  (sound, {"input.mels": 5000}, "4 to 512"),
                                  (source_of("video", 8), {"input.frames": 10**9}, "longest clip")):
        with pytest.raises(OptionError, match=said):
            make_plan(source, options)


def test_batches_with_and_without_lengths_are_joined():
    slots = torch.arange(2)
    full, short = Batch({"x": torch.zeros(2, 1, 8)}, slots, slots, slots), Batch({"x": torch.zeros(2, 1, 8)}, slots, slots, slots)
    short.lengths = torch.tensor([3, 5])
    for batches, expected in (([full, short], [8, 8, 3, 5]), ([short, full], [3, 5, 8, 8])):
        assert find_modality("series").concat(batches).lengths.tolist() == expected
    assert find_modality("series").concat([full, full]).lengths is None
