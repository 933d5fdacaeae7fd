"""Reading of point clouds, the laws of their views, grouping against a loop, order and length that change nothing, methods on them."""

import numpy as np
import pytest
import torch

from selftaught.contracts import (
    TRANSFORM_WIDTH,
    BadItem,
    Batch,
    Clean,
    DataError,
    Mask,
    MultiCrop,
    NotApplicable,
    OptionError,
    Pair,
    Patches,
    Single,
    Transformed,
)
from selftaught.modalities import Preprocessing, find_modality
from selftaught.networks.point_geometry import PARTS, GeometrySignal
from selftaught.networks.point_groups import Grouping, farthest_points, gather_points
from selftaught.objectives.points import chamfer, unsigned_error
from selftaught.sources import open_source
from selftaught.sources.asked import Asked
from selftaught.sources.points import PointsArrays, open_points
from selftaught.sources.points_files import on_surface, parse_cloud
from selftaught.testing import check_method, draft, source_of
from selftaught.views.points import PointSpec, matrices

POINTS = find_modality("points")
CUBE = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float64)


@pytest.fixture(scope="module")
def source():
    return source_of("points", 48)


@pytest.fixture(scope="module")
def prepared(source):
    return POINTS.prepare(source)


def batch_of(source, prepared, rows=None):
    index = np.arange(len(source)) if rows is None else np.asarray(rows)
    fields, lengths = POINTS.collate(source.take(index), prepared)
    place = torch.from_numpy(index)
    return Batch(fields, place, place, torch.zeros_like(place), None, lengths)


def seen(source, prepared, need, seed=0, **options):
    batch = batch_of(source, prepared)
    return POINTS.views(need, prepared, **options)(batch, batch.draws(seed, "train"))


def permuted(x, lengths, seed=0):
    """The points of each cloud in another order, padding in its place."""
    generator = torch.Generator().manual_seed(seed)
    keys = torch.rand(x.shape[0], x.shape[2], generator=generator)
    if lengths is not None:
        step = torch.arange(x.shape[2])
        keys = torch.where(step < lengths[:, None], keys, 2.0 + step)
    return x.gather(2, keys.argsort(1)[:, None].expand_as(x))


# ---- reading ---------------------------------------------------------------------------------------------------------------


def ply(points, kind="binary_little_endian", colours=None, faces=()):
    properties = "".join(f"property float {axis}\n" for axis in "xyz") + "property int mark\n"
    properties += "".join(f"property uchar {c}\n" for c in ("red", "green", "blue")) if colours is not None else ""
    head = f"ply\nformat {kind} 1.0\ncomment made here\nelement vertex {len(points)}\n{properties}"
    head += f"element face {len(faces)}\nproperty list uchar int vertex_indices\n" if len(faces) else ""
    head = head.encode() + b"end_header\n"
    if kind == "ascii":
        rows = [[*p, 7, *([] if colours is None else colours[i])] for i, p in enumerate(points)] + [[len(f), *f] for f in faces]
        return head + "\n".join(" ".join(map(str, row)) for row in rows).encode() + b"\n"
    fields = [(a, "<f4") for a in "xyz"] + [("mark", "<i4")] + ([] if colours is None else [(c, "u1") for c in "rgb"])
    table = np.zeros(len(points), fields)
    for i, axis in enumerate("xyz"):
        table[axis] = np.asarray(points)[:, i]
    for i, c in enumerate("rgb" if colours is not None else ""):
        table[c] = colours[:, i]
    return head + table.tobytes() + b"".join(bytes([len(f)]) + np.array(f, "<i4").tobytes() for f in faces)


def saved(tmp_path, array, name):
    np.save(tmp_path / name, array)
    return (tmp_path / name).read_bytes()


def test_every_format_gives_the_same_points(tmp_path):
    colours = np.arange(24).reshape(8, 3) * 10
    text = "# a remark\n" + "\n".join(",".join(map(str, p)) for p in CUBE)
    for blob in (ply(CUBE, "ascii"), ply(CUBE), text.encode(), saved(tmp_path, CUBE.astype(np.float32), "a.npy"),
                 b"OFF8 0 0\n" + "\n".join(" ".join(map(str, p)) for p in CUBE).encode(),
                 b"coff\n8 0 0\n" + "\n".join(" ".join(map(str, p)) + " 255 0 0 255" for p in CUBE).encode()):
        cloud = parse_cloud(blob)
        assert cloud.names[:3] == ("x", "y", "z") and np.allclose(cloud.values[:, :3], CUBE)
    for kind in ("ascii", "binary_little_endian"):
        cloud = parse_cloud(ply(CUBE, kind, colours, faces=[(0, 1, 3, 2), (0, 1, 5)]))
        assert cloud.names == ("x", "y", "z", "red", "green", "blue") and cloud.passed == ("mark",)
        assert np.allclose(cloud.values[:, 3:], colours / 255) and cloud.faces.tolist() == [[0, 1, 3], [0, 3, 2], [0, 1, 5]]


def test_points_of_a_mesh_lie_on_it_evenly():
    corners = np.array([[0, 0, 0], [3, 0, 0], [0, 1, 0], [0, 0, 5], [1, 0, 5], [0, 1, 5]], np.float64)  # areas 1.5 and .5
    x = on_surface(corners, np.array([[0, 1, 2], [3, 4, 5]]), 4000, np.random.default_rng(0))
    low = x[x[:, 2] < 1]
    assert set(x[:, 2].round(9)) == {0.0, 5.0} and abs(len(low) / 4000 - 0.75) < 0.03
    assert (low[:, 0] / 3 + low[:, 1] <= 1 + 1e-9).all() and np.abs(low[:, :2].mean(0) - [1, 1 / 3]).max() < 0.05


@pytest.mark.parametrize("blob, said", [
    (b"", "zero bytes"), (b"\0" * 64, "all bytes are zero"), (b"1 2 3", "holds 1 point: a cloud has at least 2"),
    (b"1 2 3\n1 2 nan\n", "1 of 2 points are NaN or infinite, the first in row 1"),
    (b"1 2 3\n1 2 3", "all of its 2 points lie in one place"),
    (ply(CUBE)[:-9], "truncated: 7 of 8 points"), (ply(CUBE, "ascii")[:-20], "truncated: 7 of 8 points"),
    (ply(CUBE, faces=[(0, 1, 2)])[:-4], "truncated: 0 of 1 faces"), (ply(CUBE, faces=[(0, 1, 9)]), "a face names point 9 of 8"),
    (ply(CUBE).replace(b"end_header", b"end"), "without end_header"), (ply(CUBE).replace(b"float x", b"float u"), "its columns are u, y"),
    (ply(CUBE).replace(b"float x", b"half x"), "wrong header: 'property half x'"), (b"OFF\nx y\n", "wrong header: after OFF"),
    (b"OFF\n3 1 0\n0 0 0\n0 1 0\n1 0 0\n", "truncated: 3 of 4"), (b"1 2 3\n1 2", "line 2 of points has 2 columns where the first has 3"),
    (" ".join(map(str, range(99))).encode(), "lies across: points are rows .* transpose it"),
    (b"4OFF\n3 0 0\n0 0 0 1\n0 1 0 1\n1 0 0 1\n", "4OFF, of points with four coordinates: write it as OFF"),
    (b"\x89\xff\x01\x02", "wrong header"), (b"name,color\n1,2", "not readable as points|is no cloud"),
])
def test_what_is_no_cloud_is_said(blob, said):
    with pytest.raises(BadItem, match=said):
        parse_cloud(blob)


def test_folders_are_classes_and_bad_files_are_named(tmp_path):
    rng = np.random.default_rng(0)
    for kind, name in enumerate(("cup", "dog")):
        (tmp_path / name).mkdir()
        for i in range(3):
            np.save(tmp_path / name / f"{i}.npy", rng.normal(kind, 1, (20 + i, 3)).astype(np.float32))
    (tmp_path / "dog" / "bad.xyz").write_text("1 2 3\n")
    source = open_points(tmp_path, Asked())
    assert source.classes == ["cup", "dog"] and source.labels.tolist() == [0] * 3 + [1] * 4 and source.facts.lengths == (20, 22)
    with pytest.raises(BadItem, match="at least 2"):
        source.read([source.name(i) for i in range(7)].index("dog/bad.xyz"))
    prepared = POINTS.prepare(source)
    fields, lengths = POINTS.collate([source.read(i) for i in range(3)], prepared)
    assert fields["x"].shape == (3, 3, 22) and lengths.tolist() == [20, 21, 22] and (fields["x"][0, :, 20:] == 0).all()
    assert len(open_points([tmp_path / "cup" / f"{i}.npy" for i in range(2)], Asked())) == 2
    assert len(open_points(tmp_path / "cup" / "0.npy", Asked(least=1))) == 1


def test_arrays_in_all_their_forms(tmp_path):
    rng = np.random.default_rng(0)
    x, many = rng.normal(size=(4, 9, 5)), [rng.normal(size=(n, 3)) for n in (4, 6, 5)]
    assert open_points(x, Asked()).facts.shape == (5, 9) and open_points(many, Asked()).facts.lengths == (4, 6)
    rows = {"points": np.concatenate(many), "ptr": np.array([0, 4, 10, 15]), "label": np.array([0, 1, 1]), "shape": np.array([3, 3, 4])}
    np.savez(tmp_path / "a.npz", **rows)
    source = open_points(tmp_path / "a.npz", Asked(target="label", group="shape"))
    assert source.labels.tolist() == [0, 1, 1] and source.groups.tolist() == [0, 0, 1]
    item = source.read(1)
    assert np.allclose(item["x"][:, :6], many[1].T, atol=1e-6) and item["size"].tolist() == [6, 0]
    with pytest.raises(OptionError, match="Did you mean 'label'"):
        open_points(tmp_path / "a.npz", Asked(target="labels"))
    np.savez(tmp_path / "parts.npz", X_train=x, y_train=[0, 1, 0, 1], x_test=x[:2])
    train = open_source(f"{tmp_path / 'parts.npz'}::train", modality="points")
    assert train.labels.tolist() == [0, 1, 0, 1] and len(open_source(f"{tmp_path / 'parts.npz'}::test", modality="points")) == 2
    np.save(tmp_path / "one.npy", x[0])
    for path, said in (("parts.npz::dev", "none called x_dev, X_dev"), ("one.npy::train", "has no parts to choose from")):
        with pytest.raises(OptionError, match=said):
            open_source(str(tmp_path / path), modality="points")


@pytest.mark.parametrize("x, said", [
    (np.zeros((3, 4, 2)), "is no cloud"), (np.zeros((3, 4, 3)), "all of its 4 points lie in one place"),
    (np.zeros((3, 4)), "no set of clouds"), ({"x": np.array(3.0)}, "without axes"), ({"x": np.array(3.0), "ptr": [0, 1]}, "without axes"),
    (np.stack([CUBE, CUBE * np.nan]), "cloud 1: 8 of 8 points are NaN"), ([CUBE, CUBE[:1]], "cloud 1: holds 1 point"),
    (np.random.default_rng(0).normal(size=(4, 3, 128)), r"cloud 0: an array of shape \(3, 128\) lies across.* transpose it"),
    ([CUBE, np.ones((4, 5))], "all of its 4 points|has 5 columns"), (CUBE[None], "holds 1 of point clouds"),
])
def test_arrays_that_are_no_clouds_are_refused(x, said):
    with pytest.raises(DataError, match=said):
        open_points(x, Asked())


# ---- preprocessing and views ---------------------------------------------------------------------------------------------------


def test_clouds_are_centred_and_fill_the_unit_ball(source, prepared):
    assert Preprocessing.from_json(prepared.to_json()) == prepared
    (view,) = seen(source, prepared, Clean())
    for x, n in zip(view.x, view.lengths):
        assert x[:, :n].mean(1).abs().max() < 1e-5 and abs(float(x.norm(dim=0).max()) - 1) < 1e-5 and (x[:, n:] == 0).all()
    scaled = PointsArrays([5 + 3 * c for c in source._clouds])
    assert torch.allclose(seen(scaled, POINTS.prepare(scaled), Clean())[0].x, view.x, atol=1e-5)
    picture = POINTS.picture(source.read(0), prepared)
    assert picture.shape == (96, 96, 3) and picture.min() < 150 and (picture == 255).mean() > 0.3
    raw = POINTS.raw(batch_of(source, prepared), prepared)
    assert raw.shape == (48, 216) and torch.allclose(raw.sum(1), torch.ones(48))


def test_normals_turn_along_and_other_columns_are_standardised(tmp_path):
    rng = np.random.default_rng(0)
    way = rng.normal(size=(6, 40, 3))
    way /= np.linalg.norm(way, axis=2, keepdims=True)
    x = np.concatenate([way * 2, way, rng.normal(5, 3, (6, 40, 1))], 2)  # points of a ball are along their normals
    source = PointsArrays(x)
    source.columns = ("x", "y", "z", "nx", "ny", "nz", "intensity")
    prepared = POINTS.prepare(source)
    assert prepared.statistics["mean"][:3] == [0, 0, 0] and abs(prepared.statistics["mean"][3] - x[..., 6].mean()) < 1e-4
    (view,) = seen(source, prepared, Single(), scale_p=0, move_p=0, jitter_p=0, axis="any")
    centre = (view.x[:, :3] / view.x[:, :3].norm(dim=1, keepdim=True) * view.x[:, 3:6]).sum(1)
    assert centre.min() > 0.8 and abs(float(view.x[:, 6].std()) - 1) < 0.2


def test_views_do_what_they_say(source, prepared):
    (clean,), keep = seen(source, prepared, Clean()), {"crop_p": 0, "drop_p": 0, "jitter_p": 0}
    a, b = seen(source, prepared, Pair(known=True), **keep)
    assert not torch.allclose(a.x, b.x) and len(torch.unique(a.x.flatten(1), dim=0)) == 48
    for view in (a, b):
        turn, scale, move = (view.applied[k] for k in ("quaternion", "scale", "move"))
        back = (matrices(turn).transpose(1, 2) @ (view.x - move[..., None])) / scale[..., None]
        inside = torch.arange(view.x.shape[2]) < view.lengths[:, None]
        assert ((back - clean.x).abs() * inside[:, None]).max() < 1e-5 and (scale > 0.79).all() and (scale < 1.26).all()
        assert torch.allclose(turn[:, 1:3], torch.zeros(48, 2)) and view.applied["transform"].shape == (48, TRANSFORM_WIDTH)
        assert view.applied["transform"].abs().max() <= 1 + 1e-6
    angle = 2 * torch.atan2(a.applied["quaternion"][:, 3], a.applied["quaternion"][:, 0])
    assert angle.min() < -2 and angle.max() > 2  # all the way round
    parts = seen(source, prepared, MultiCrop(large=1, small=2), drop_p=0, scale_p=0, turn_p=0, move_p=0, jitter_p=0)[1:]
    for view in parts:  # the nearest points to one of them: no other point of the cloud is nearer
        for x, n, whole, m, place in zip(view.x, view.lengths, clean.x, clean.lengths, view.positions):
            reach = (x[:, :n] - place[:3, None]).norm(dim=0).max()
            assert int(((whole[:, :m] - place[:3, None]).norm(dim=0) <= reach + 1e-6).sum()) >= n and (x[:, n:] == 0).all()
        share = view.lengths / clean.lengths
        assert share.min() > 0.15 and share.max() < 0.55


def test_views_of_clouds_of_one_size_have_no_lengths_and_repeat_points():
    source = PointsArrays(np.random.default_rng(0).normal(size=(16, 32, 3)))
    prepared = POINTS.prepare(source)
    a, _ = seen(source, prepared, Pair(), drop_p=1, drop=0.5, crop_p=0, jitter_p=0)
    assert a.lengths is None and a.x.shape == (16, 3, 32) and all(len(torch.unique(x, dim=1).T) == 16 for x in a.x)


def test_quarter_turns_are_told_apart_and_grids_are_refused(source, prepared):
    views = seen(source, prepared, Transformed(kind="turn"), scale_p=0, move_p=0)
    assert [int(v.applied["class"][0]) for v in views] == [0, 1, 2, 3]
    assert torch.allclose(views[2].x[:, 1:], -views[0].x[:, 1:], atol=1e-6)
    assert torch.allclose(views[1].x[:, 2], views[0].x[:, 1], atol=1e-6)
    for need in (Patches(), Transformed(kind="channels")):
        with pytest.raises(NotApplicable, match="a cloud is no grid"):
            POINTS.views(need, prepared)
    with pytest.raises(NotApplicable, match="reads items in an order"):
        POINTS.backbone(prepared.facts, "convnet")
    with pytest.raises(OptionError, match="Did you mean 'jitter'"):
        POINTS.views(Pair(), prepared, jiter=1)
    with pytest.raises(OptionError, match="probability"):
        PointSpec(turn_p=2)


# ---- grouping and networks -----------------------------------------------------------------------------------------------------


def test_farthest_points_are_those_of_a_loop_and_neighbours_the_nearest():
    x = torch.randn(3, 3, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    groups = Grouping(50, 12, 6).of(x)
    for cloud, centres, index in zip(x.numpy(), groups.centre.numpy(), groups.index.numpy()):
        chosen = [int(np.linalg.norm(cloud - cloud.mean(1, keepdims=True), axis=0).argmax())]
        while len(chosen) < 12:
            chosen.append(int(np.min([np.linalg.norm(cloud - cloud[:, [c]], axis=0) for c in chosen], 0).argmax()))
        assert sorted(chosen) == sorted(centres.tolist())
        for centre, near in zip(centres, index):
            assert set(near.tolist()) == set(np.linalg.norm(cloud - cloud[:, [centre]], axis=0).argsort()[:6].tolist())
    again = torch.cat([x, x[:, :, :5]], 2)  # ties: points that are there twice
    assert torch.equal(gather_points(again, farthest_points(again, None, 12)).sort(1).values,
                       gather_points(x, farthest_points(x, None, 12)).sort(1).values)


@pytest.mark.parametrize("name", ["pointnet", "point_transformer"])
def test_a_batch_of_varying_lengths_equals_one_by_one_and_order_means_nothing(source, prepared, name):
    (view,) = seen(source, prepared, Clean())
    backbone = POINTS.backbone(prepared.facts, name).eval().double()
    x, lengths = view.x.double(), view.lengths
    with torch.no_grad():
        whole = backbone(x, lengths=lengths)
        alone = [backbone(cloud[None, :, :n]) for cloud, n in zip(x, lengths)]
        assert torch.allclose(whole.pooled, torch.cat([f.pooled for f in alone]), atol=1e-9)
        if whole.tokens is not None:
            assert len(set(whole.lengths.tolist())) > 1
            assert all(torch.allclose(row[:n], f.tokens[0], atol=1e-9) for row, n, f in zip(whole.tokens, whole.lengths, alone))
            keep = torch.tensor([[3, 1, 7]]).expand(48, -1)
            assert backbone(x, lengths=lengths, keep=keep).tokens.shape == (48, 3, backbone.width)
        assert torch.allclose(backbone(permuted(x, lengths), lengths=lengths).pooled, whole.pooled, atol=1e-9)


@pytest.mark.parametrize("method", ["simclr", "mae", "data2vec", "jepa"])
def test_permuting_points_changes_no_loss(source, method):
    plan = draft(method, "points", source, batch_size=32)
    network, stream = plan.build_method(), plan.stream(source)
    batch = next(stream.batches(0, 1, rank=0, world=1, accumulate=1))
    views = stream.views(batch, batch.draws(0, "train"))
    first = network(views, batch)
    with torch.no_grad():
        second = network([v.with_(x=permuted(v.x, v.lengths, i)) for i, v in enumerate(views)], batch)
    assert abs(float(getattr(first, "total", first).detach()) - float(getattr(second, "total", second))) < 1e-5


def test_what_is_predicted_of_a_group_is_a_function_of_its_set(source, prepared):
    (view,) = seen(source, prepared, Clean())
    signal = POINTS.backbone(prepared.facts, "point_transformer").signal()
    a, b = signal(view.x, view.lengths), signal(permuted(view.x, view.lengths), view.lengths)
    assert a.shape == (48, 16, signal.width) and torch.allclose(a, b, atol=1e-6, equal_nan=True) and a.isnan().any()
    moved = signal(view.x + 0.05, view.lengths)  # relative to centres
    assert torch.allclose(moved.nan_to_num().sort(1).values, a.nan_to_num().sort(1).values, atol=1e-3)
    sets = signal.sets(view.x, view.lengths)
    assert torch.equal(sets.isnan().all(-1).all(-1), a.isnan().all(-1))
    masked = POINTS.hide(POINTS.views(Single(strength="weak"), prepared), Mask(), POINTS.backbone(prepared.facts, "point_transformer").grid)
    (hidden,) = masked(batch := batch_of(source, prepared), batch.draws(0, "train"))
    assert hidden.masks.shape == (1, 48, 16) and (hidden.masks.sum(2) == 12).all()


def test_chamfer_is_its_formula():
    generator = torch.Generator().manual_seed(0)
    p, q = torch.randn(4, 5, 3, dtype=torch.float64, generator=generator), torch.randn(4, 6, 3, dtype=torch.float64, generator=generator)
    q[1, 2:], q[3] = torch.nan, torch.nan
    found = chamfer(p, q)
    for i, (a, b) in enumerate(zip(p.numpy(), q.numpy())):
        b = b[~np.isnan(b[:, 0])]
        if len(b):
            one = np.mean([min(np.sum((u - v) ** 2) for u in a) for v in b]) + np.mean([min(np.sum((u - v) ** 2) for v in b) for u in a])
            assert abs(float(found[i]) - one) < 1e-12
    assert found[3].isnan() and torch.allclose(chamfer(p[:1, [2, 0, 1, 4, 3]], q[:1]), found[:1], atol=1e-12)
    p.requires_grad_()
    chamfer(p, q).nansum().backward()
    assert torch.isfinite(p.grad).all() and (p.grad[3] == 0).all()


@pytest.mark.parametrize("method", ["byol", "mae"])
def test_methods_hold_on_points(method):
    checks = check_method(method, modalities=("points",), learns=False, two_processes=False)
    assert len([c for c in checks if c.holds]) >= 4


def test_geometry_of_flat_and_round_groups():
    """Points of a tilted plane: its normal, no curvature, the centroid in it; and errors that know no sign."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.tensor([0.6, 0.0, 0.8])
    across, along = torch.tensor([0.8, 0.0, -0.6]), torch.tensor([0.0, 1.0, 0.0])
    u = torch.rand(2, 2, 200, generator=generator) - 0.5
    x = torch.einsum("bkp,kc->bcp", u, torch.stack([across, along]))
    signal = GeometrySignal(Grouping(200, 10, 30))
    centroid, occupied, found, curvature = signal(x).split(list(PARTS.values()), -1)
    assert found.matmul(normal).abs().min() > 1 - 1e-4 and curvature[..., 0].max() < 1e-4 and (curvature.sum(-1) - 1).abs().max() < 1e-5
    assert centroid.matmul(normal).abs().max() < 1e-3 and set(occupied.unique().tolist()) == {0.0, 1.0}
    assert occupied[..., 13].min() == 1  # the middle cell holds the centre
    assert float(unsigned_error(normal, -normal)) < 1e-12 and abs(float(unsigned_error(normal, along)) - 2 / 3) < 1e-6
    assert unsigned_error(normal, normal * torch.nan).isnan()
