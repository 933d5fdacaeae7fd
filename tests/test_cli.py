"""The command line as a newcomer meets it: sentences for wrong inputs, exit codes, speed of --help, several processes."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

COMMAND = [str(Path(sys.executable).parent / "selftaught")]
SMALL = ["batch_size=16", "precision=32-true", "backbone.widths=8,16", "method.hidden=32", "log_every=1"]


def call(*words: str, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess:
    return subprocess.run([*COMMAND, *words], cwd=cwd, capture_output=True, text=True, timeout=timeout,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})


def called(words: list[str], monkeypatch, capsys) -> tuple[int, str]:
    """Exit code and standard error of a command in this process."""
    from selftaught import cli

    monkeypatch.setattr(sys, "argv", ["selftaught", *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code, capsys.readouterr().err


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    np.savez(folder / "series.npz", x=rng.normal(size=(64, 2, 32)).astype(np.float32), y=np.arange(64) % 2)
    (folder / "empty").mkdir()
    return folder


@pytest.fixture(scope="module")
def run(place) -> Path:
    done = call("pretrain", "series.npz", "--layout", "NCT", "--out", "run", "steps=12", *SMALL, cwd=place)
    assert done.returncode == 0, done.stderr
    return place / "run"


@pytest.mark.parametrize("words", [["--help"], ["pretrain", "--help"], ["--version"]])
def test_help_answers_at_once(words, tmp_path):
    call(*words, cwd=tmp_path)  # the first start compiles
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert call(*words, cwd=tmp_path).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(times) < 0.5, f"{min(times):.2f} s of processor time"  # wall time is the tests' other half's as well


def test_every_key_has_a_sentence(tmp_path):
    from selftaught.contracts import KEYS

    text = " ".join(call("pretrain", "--help", cwd=tmp_path).stdout.split())
    assert all(f"{key} [" in text for key in KEYS)


def test_every_backbone_has_its_place_in_the_help():
    import selftaught.networks  # noqa: F401
    from selftaught.contracts import KEYS, find, names

    listed = KEYS["backbone"][1].partition(": ")[2].replace(",", " ").split()
    built_in = [n for n in names("backbone") if find("backbone", n).__module__.startswith("selftaught.networks")]
    assert sorted(listed) == sorted([*built_in, "timm:NAME", "hf:NAME"])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["pretrain", "nowhere"], 1, "nowhere"),
        (["pretrain", "empty"], 1, "empty"),
        (["pretrain", "series.npz", "--layout", "NCT", "epoch=3"], 2, "Did you mean 'epochs'"),
        (["pretrain", "series.npz", "--layout", "NCT", "method=simclrr"], 2, "Did you mean 'simclr'"),
        (["pretrain", "series.npz", "--layout", "NCT", "method.temprature=1"], 2, "Did you mean 'temperature'"),
        (["pretrain", "series.npz", "--layout", "NCT", "epochs"], 2, "key=value"),
        (["pretrain", "series.npz", "--layout", "NCT", "lr=fast"], 2, "a number"),
        (["pretrain"], 2, "data"),
        (["embed", "nowhere", "series.npz", "-o", "x.npy"], 2, "no encoder"),
    ],
)
def test_wrong_inputs_get_a_sentence(words, code, said, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    left, error = called(words, monkeypatch, capsys)
    assert left == code and said.lower() in error.lower()


@pytest.mark.parametrize(("words", "code"), [(["pretrain", "nowhere"], 1), (["pretrain", "series.npz", "epoch=3"], 2)])
def test_a_process_of_its_own_says_it_without_a_traceback(words, code, place):
    done = call(*words, cwd=place)
    assert done.returncode == code and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pretrain", "--steps", "5"], "after the data, as steps=5.\n"), (["pretrain", "--batch-size=8"], "as batch_size=8.\n"),
        (["pretrain", "--method.hidden", "64"], "as method.hidden=64.\n"), (["compare-methods", "--lr"], "as lr=VALUE.\n"),
        (["pretrain", "--stepps", "5"], None), (["embed", "--steps", "5", "-o", "e.npy"], None),
    ],
)
def test_a_setting_written_as_an_option_is_shown_as_a_setting(words, said, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    code, error = called([words[0], "series.npz", *words[1:]], monkeypatch, capsys)
    assert code == 2 and "No such option" in error and (error.endswith(said) if said else "Settings are written" not in error)


def test_methods_and_backbones_are_listed_and_told_of(monkeypatch, capsys):
    from selftaught import cli

    def printed(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["selftaught", *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert not left.value.code
        return capsys.readouterr().out

    lines = {line.split()[0]: line for line in printed("methods").splitlines()}
    assert "tokens  Masked autoencoders" in lines["mae"] and "labels  " in lines["supcon"] and "A simple framework" in lines["simclr"]
    told = printed("methods", "mae")
    assert told.startswith("Masked autoencoders") and "needs: one augmented view, tokens\n" in told
    assert all(part in told for part in ("method.masked=0.75", "training.betas=0.9,0.95", "batch_size=4096", "backbone.pool=mean"))
    assert "Not table: " in printed("methods", "rotation")
    assert "convnet            widths kernel\n" in printed("backbones")
    assert "backbone.widths=64,128,256,256" in printed("backbones", "convnet")


@pytest.mark.parametrize(
    ("setting", "said"),
    [(["training.optimizer=adam"], "Did you mean 'adamw'"), (["training.schedule=cosin"], "Did you mean 'cosine'"),
     (["training.scale_lr=none"], "does not fit"), (["training.scale_lr=root"], "no scale_lr 'root'")],
)
def test_what_cannot_be_trained_is_refused_before_the_plan_is_said(setting, said, place, monkeypatch, capsys):
    from selftaught import cli

    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["selftaught", "pretrain", "series.npz", "--layout", "NCT", "--out", "never", "steps=2", *setting])
    with pytest.raises(SystemExit) as left:
        cli.main()
    shown = capsys.readouterr()
    assert left.value.code == 2 and said in shown.err and not shown.out and not (place / "never").exists()


def test_a_batch_of_one_is_refused_by_losses_that_compare(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    for method in (["method=simclr", "batch_size=1"], ["method=dcl", "batch_size=4", "training.accumulate=4"]):
        code, error = called([*PRETRAIN, *method], monkeypatch, capsys)
        assert code == 2 and "compares the items of a batch" in error and "raise batch_size" in error and error.count("\n") == 1
        assert not (place / "never").exists()


PRETRAIN = ["pretrain", "series.npz", "--layout", "NCT", "--quiet", "--out", "never", "steps=2"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        *((f"{option}=x", f"--{option}") for option in ("out", "init", "target", "quiet")), ("data=x", "no key 'data'"),
        *((f"{key}=none", f"{key}=none does not fit") for key in ("batch_size", "steps", "seed", "device", "devices", "max_bad")),
        *((f"{key}=0", "at least 1") for key in ("log_every", "checkpoint_every", "devices", "batch_size", "training.accumulate")),
        ("devices=-1", "at least 1"), ("lr=1e999", "a number"), ("seed=-1", "at least 0"), ("device=cpu:3", "no such device"),
        ("training.clip=abc", "a number"), ("training.groups=3", "only Python"), ("training.optimizer=none", "does not fit"),
        ("training.lr=fast", "a number"), ("training.batch_size=4", "batch_size=4"), ("training.epochs=7", "epochs=7"),
        ("method.hidden=-5", "at least 0"), ("method.temperature=none", "temperature=none does not fit"),
        ("backbone.widths=8", "separated by commas"), ("backbone.widths=0,8", "at least 1"), ("backbone.kernel=wide", "a whole number"),
    ],
)
def test_settings_that_cannot_be_are_a_sentence(setting, said, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    code, error = called([*PRETRAIN, setting], monkeypatch, capsys)
    assert code == 2 and said in error and error.count("\n") == 1


OWN = """from selftaught.contracts import register
from selftaught.methods import SimCLR

@register("{0}")
class Own(SimCLR):
    "One of one's own."

class Other: pass
{1}"""


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("nowhere.py:Own", "There is no file"), ("nowhere_at_all:Own", "There is no module nowhere_at_all"), (":Own", "FILE.py:NAME"),
        ("own_fails.py:Own", "own_fails.py cannot be imported: ZeroDivisionError in line 10: division by zero"),
        ("own_parse.py:Own", "SyntaxError in line 9"), ("own_leaves.py:Own", "SystemExit"), ("own_first.py", "write FILE.py:NAME"),
        ("own_first.py:Ow", "named 'Ow'. Did you mean 'Own'? Known: Own, own_first."), ("own_first:Ow", "Did you mean 'Own'?"),
        ("own_first.py:Other", "Other in own_first.py is no Method"), ("own_first.py:simclr", "named 'simclr'"),
    ],
)
def test_methods_of_ones_own_that_cannot_be_are_a_sentence(method, said, place, monkeypatch, capsys):
    for name, last in (("first", ""), ("fails", "\n1 / 0"), ("parse", "x = ("), ("leaves", "raise SystemExit(0)")):
        (place / f"own_{name}.py").write_text(OWN.format(f"own_{name}", last))
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", list(sys.path))
    code, error = called([*PRETRAIN, f"method={method}"], monkeypatch, capsys)
    assert code == 2 and said in error.replace(f"{place}{os.sep}", "") and error.count("\n") == 1


def test_methods_of_ones_own_are_compared_and_told_of(place, monkeypatch, capsys):
    (place / "own_second.py").write_text(OWN.format("own_second", ""))
    from selftaught import cli

    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for words, said in ((["compare-methods", "series.npz", "--layout", "NCT", "--methods", "diet,own_second.py:own_second", "--steps", "2",
                          *SMALL[:3], "--json"], '"own_second.py:own_second"'), (["methods", "own_second:Own"], "One of one's own.")):
        monkeypatch.setattr(sys, "argv", ["selftaught", *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        shown = capsys.readouterr()
        assert not left.value.code and said in shown.out, shown.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["embed", "run", "series.npz", "--layout", "NCT", "-o", "/proc/e.npy"], 1, "Cannot write /proc/e.npy"),
        (["embed", "run", "series.npz", "-o", "e.npy", "--batch-size", "0"], 2, "batch-size"),
        (["neighbours", "run", "series.npz", "--layout", "NCT", "-o", "/proc/e.png"], 1, "Cannot write /proc/e.png"),
        (["neighbours", "run", "series.npz", "--layout", "NCT", "--item", "²"], 2, "No item's name"),
        (["neighbours", "run", "series.npz", "--layout", "NCT", "--item", "--5"], 2, "No item's name"),
        (["evaluate", "run", "series.npz", "series.npz", "--seed", "-1"], 2, "seed"),
        (["prove", "S378", "--seeds", "0"], 2, "seeds"),
        (["compare-methods", "series.npz", "--epochs", "0.5"], 2, "epochs"),
        (["compare-methods", "series.npz", "methods=x"], 2, "--methods"),
        (["compare-methods", "series.npz", "--layout", "NCT", "--methods", ""], 2, "--methods"),
        (["pretrain", "series.npz", "--layout", "NCT", "--resume", "steps=12"], 2, "name the run with --out"),
        (["pretrain", "series.npz", "--layout", "NCT", "--out", "", "steps=12"], 2, "--out names no folder"),
        (["compare-methods", "series.npz", "--finetune", "some"], 2, "--finetune"),
    ],
)
def test_options_that_cannot_be_are_a_sentence(words, code, said, run, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    left, error = called(words, monkeypatch, capsys)
    assert left == code and said in error


def test_embed_and_neighbours(run, place):
    done = call("embed", "run", "series.npz", "--layout", "NCT", "-o", "e.npy", cwd=place)
    assert done.returncode == 0, done.stderr
    assert np.load(place / "e.npy").shape == (64, 16)
    found = json.loads(call("neighbours", "run", "series.npz", "--layout", "NCT", "--item", "3", "-k", "4", "--json", cwd=place).stdout)
    assert len(found["neighbours"]) == 4 and found["item"]["index"] == 3


def test_notes_of_the_data_go_to_standard_error(run, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    damaged = dict(np.load("series.npz"))
    damaged["x"][3, 1, 5] = np.nan
    np.savez("damaged.npz", **damaged)
    for words, times in ((["embed", "run", "damaged.npz", "-o", "d.npy"], 1), (["neighbours", "run", "damaged.npz", "--json"], 1),
                         (["evaluate", "run", "damaged.npz", "damaged.npz", "--protocol", "knn", "--no-baselines", "--json"], 2)):
        code, error = called([*words, "--layout", "NCT"], monkeypatch, capsys)
        assert code == 0 and error.count("missing (NaN): 1 in channel 1") == times, error
        assert all(line.startswith("note: ") for line in error.splitlines())


def test_evaluate_says_where_it_saved(run, place, monkeypatch, capsys):
    from selftaught import cli

    monkeypatch.chdir(place)
    for folder, said in (("run", "saved as evaluation.json and evaluation.md in run"),
                         ("run/encoder", "nothing was saved: run/encoder is an encoder and no run folder")):
        words = ["evaluate", folder, "series.npz", "series.npz", "--layout", "NCT", "--protocol", "knn", "--no-baselines"]
        monkeypatch.setattr(sys, "argv", ["selftaught", *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        *_, measured, last = capsys.readouterr().out.splitlines()
        assert left.value.code == 0 and last.startswith(said) and measured.startswith("measured on series.npz (64 items)")
    assert json.loads(Path("run/evaluation.json").read_text())["data"]["test"]["origin"] == "series.npz"
    assert not Path("run/encoder/evaluation.json").exists()


def test_bad_items_are_one_plain_line(place, monkeypatch, capsys):
    from PIL import Image

    from selftaught.encoder import Encoder
    from selftaught.plan import make_plan
    from selftaught.sources import open_source

    monkeypatch.chdir(place)
    Path("pictures").mkdir()
    for i in range(4):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(f"pictures/{i}.png")
    plan = make_plan(open_source("pictures"), {"backbone.widths": (8, 8), "steps": 1})
    Encoder(plan.build_backbone(), plan.preprocessing, backbone_name="convnet", backbone_options={"widths": (8, 8)}).save("bare")
    Path("pictures/2.png").write_bytes(b"not an image")
    code, error = called(["embed", "bare", "pictures", "-o", "p.npy"], monkeypatch, capsys)
    assert code == 0 and error.startswith("selftaught: 1 of 4 items") and error.count("\n") == 1, error


def test_an_existing_run_is_refused_and_a_changed_one_named(run, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    words = ["pretrain", "series.npz", "--layout", "NCT", "--out", "run"]
    for further, said in ((["steps=12", *SMALL], "--resume"), (["--resume", "seed=5"], "seed")):
        code, error = called([*words, *further], monkeypatch, capsys)
        assert code == 2 and said in error
    same = call("pretrain", "series.npz", "--layout", "NCT", "--out", "run", "--resume", cwd=place)
    assert same.returncode == 0, same.stderr


def test_a_collapse_leaves_with_three(place):
    done = call("pretrain", "embedded:moved-digits/train", "--out", "collapsed", "method=vicreg", "steps=400", "health_every=5",
                "method.variance=0", "method.covariance=0", *SMALL, "batch_size=64", "lr=0.02", cwd=place)
    assert done.returncode == 3 and "collapsed" in done.stderr


def test_a_collapse_that_was_not_to_stop_the_run_is_said_at_its_end(place):
    done = call("pretrain", "embedded:moved-digits/train", "--out", "noted", "method=vicreg", "steps=100", "health_every=5",
                "method.variance=0", "method.covariance=0", *SMALL, "batch_size=64", "lr=0.02", "stop_on_collapse=off", cwd=place)
    assert done.returncode == 0 and "note: The representation has collapsed" in done.stdout, done.stderr


def test_two_processes_from_the_command_line_equal_one(run, place):
    """devices=2 starts a second process, which reads the first one's plan; the losses are those of one process."""
    done = call("pretrain", "series.npz", "--layout", "NCT", "--out", "two", "steps=12", "devices=2", *SMALL, "precision=auto", cwd=place)
    assert done.returncode == 0, done.stderr
    one, two = ([json.loads(line)["loss"] for line in (place / name / "metrics.jsonl").read_text().splitlines()]
                for name in ("run", "two"))
    np.testing.assert_allclose(two, one, rtol=2e-3)  # float32: sums in another order
