"""The command line. Everything heavy is imported inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from . import __version__
from .contracts import GROUPS, KEYS, SelftaughtError
from .contracts.options import read_budgets, read_integers, read_settings


class _Commands(TyperGroup):
    def invoke(self, ctx: typer.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # typer would leave without a word
            _leave("Stopped by Ctrl-C; a run that has a checkpoint continues with --resume --out RUN.", 130)
        except Exception as error:
            if hasattr(error, "possibilities") and (hint := _as_setting(error)):  # NoSuchOption, of click or of typer's copy of it
                error.message, error.possibilities = f"{error.message}. {hint}", None
            raise


def _as_setting(error: Any) -> str:
    """How what was written as an option is written, where it is a setting and the command takes settings; else nothing."""
    key = error.option_name.lstrip("-").replace("-", "_")
    takes = error.ctx is not None and any(p.name == "settings" for p in error.ctx.command.params)
    if not takes or key not in KEYS and key.partition(".")[0] not in GROUPS:
        return ""
    place = next((i for i, word in enumerate(sys.argv) if word.partition("=")[0] == error.option_name), len(sys.argv))
    word, following = (*sys.argv[place : place + 2], "", "")[:2]
    value = word.partition("=")[2] or following
    return f"Settings are written KEY=VALUE after the data, as {key}={'VALUE' if not value or value.startswith('-') else value}."


app = typer.Typer(cls=_Commands, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
                  help="Give it data without labels; get an encoder, proof of how good it is, and the best use of the few labels.")

Data = Annotated[str, typer.Argument(help="A folder, archive, table, .npy/.npz file or embedded:NAME; FILE::PART reads a part.")]
RunPath = Annotated[str, typer.Argument(help="A run folder, or an encoder folder.")]
Target = Annotated[str | None, typer.Option(help="Column that holds the labels; of a table, NAME:number or NAME:class says how to read it "
                                                "[none].", show_default=False)]
GroupName = Annotated[str | None, typer.Option("--group", help="Column whose items splits must keep together [none].",
                                               show_default=False)]
Layout = Annotated[str | None, typer.Option(
    help="Order of an array's axes (NHWC NCHW NHW, NCT NTC NT, NTHW NTHWC NTCHW NCTHW, NDHW NCDHW NDHWC) or parts of texts (file, line, "
         "paragraph, text=COLUMN, pack) [inferred, or as in training].", show_default=False)]
Modality = Annotated[str | None, typer.Option(help="Kind of data where files or arrays do not say: image, series, table, audio, text, "
                                                   "video, volume or points [inferred].", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def main() -> None:
    """Entry point: a sentence on standard error for what a person can mend, and the exit code that goes with it."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            app(standalone_mode=True)
    except SelftaughtError as error:
        _leave(str(error), error.code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except MemoryError:
        _leave("Out of memory; lower batch_size or resolution, or choose a smaller backbone.", 1)
    except OSError as error:
        _leave(f"{error.filename or 'A file'} cannot be read or written: {error.strerror or error}.", 1)


def _leave(message: str, code: int) -> None:
    print(f"selftaught: {message}", file=sys.stderr)
    sys.exit(code)


def _warn(message: Warning | str, *where: Any) -> None:
    """A warning as a line of its own: the place in the code that Python adds is of no use here."""
    print(f"selftaught: {message}", file=sys.stderr, flush=True)


def _say(line: str) -> None:
    print(line, flush=True)


def _settings(context: typer.Context, pairs: list[str] | None) -> dict[str, str]:
    return read_settings(pairs or [], options={name for given in context.command.params for name in given.opts})


def _key_help() -> str:
    lines = [f"{key} [{'planned' if default is None else default}]: {sentence}." for key, (default, sentence) in KEYS.items()]
    lines += [f"{group}.NAME: {sentence}." for group, sentence in GROUPS.items()]
    return "\n\n".join(["Settings, as key=value after the data:", *lines])


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command(epilog=_key_help())
def pretrain(
    context: typer.Context,
    data: Data,
    settings: Annotated[list[str] | None, typer.Argument(help="key=value settings, listed below.", show_default=False)] = None,
    out: Annotated[str | None, typer.Option(help="Run folder [runs/NAME-N].", show_default=False)] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out where it stands.")] = False,
    init: Annotated[str | None, typer.Option(help="Run folder whose weights to start from [none].", show_default=False)] = None,
    target: Target = None, group: GroupName = None, layout: Layout = None, modality: Modality = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print neither the plan nor progress.")] = False,
) -> None:
    """Learn an encoder from data without labels. Decides everything itself, says so, and can be told otherwise."""
    from .stages import pretrain as run_pretrain

    run = run_pretrain(data, out=out, resume=resume, init=init, target=target, group=group, layout=layout, modality=modality,
                       progress=not quiet, say=(lambda line: None) if quiet else _say, **_settings(context, settings))
    if run.leads and not quiet:
        summary = run.summary
        counted = f", {summary['bad_items']} bad items (see quarantine.jsonl)" if summary["bad_items"] else ""
        counted += f", {summary['duplicates']} duplicates" if summary["duplicates"] else ""
        _say(f"done in {summary['seconds']:.0f} s at {summary['samples_per_second']:,.0f} samples/s{counted}")
        if summary["verdict"]:
            _say(f"note: {summary['verdict']}")
        _say(f"next: selftaught evaluate {run.folder} TRAIN TEST, or selftaught embed {run.folder} DATA -o FILE")


@app.command()
def evaluate(
    run: RunPath,
    train: Annotated[str, typer.Argument(help="Labelled data to fit probes on.")],
    test: Annotated[str, typer.Argument(help="Labelled data to score.")],
    protocol: Annotated[list[str] | None, typer.Option(help="knn, linear, finetune, clustering, retrieval [knn linear].",
                                                       show_default=False)] = None,
    budgets: Annotated[str, typer.Option(help="Fractions (up to 1) or counts (from 2) of the training labels.")] = "0.01,0.1,1",
    seed: Annotated[int, typer.Option(min=0, help="Settles which labels are drawn.")] = 0,
    baselines: Annotated[bool, typer.Option(help="Include random initialisation, raw input and supervised training.")] = True,
    target: Target = None, group: GroupName = None, layout: Layout = None, as_json: Json = False,
) -> None:
    """Compare the encoder with raw input, its random initialisation and supervised training, at several label budgets."""
    from .protocols import evaluate as run_evaluate
    from .stages import Run

    encoder = _encoder(run)
    table = run_evaluate(encoder, _opened(encoder, train, target=target, group=group, layout=layout),
                         _opened(encoder, test, target=target, group=group, layout=layout),
                         protocols=protocol or ["knn", "linear"], budgets=read_budgets("--budgets", budgets), seed=seed,
                         baselines=("random", "raw", "supervised") if baselines else (), say=lambda line: None if as_json else _say(line))
    kept = (Path(run) / "run.yaml").is_file()
    if kept:
        table.save(Run(run).folder)
    print(json.dumps(table.to_json()) if as_json else table.to_text())
    if not as_json:
        _say(f"saved as evaluation.json and evaluation.md in {run}" if kept else
             f"nothing was saved: {run} is an encoder and no run folder (--json prints the table to keep)")


@app.command("compare-methods")
def compare_methods(
    context: typer.Context,
    data: Data,
    settings: Annotated[list[str] | None, typer.Argument(help="key=value settings, as of pretrain; they hold for every method.",
                                                         show_default=False)] = None,
    test: Annotated[str | None, typer.Option(help="Labelled data to score on [a fifth of DATA, held out].", show_default=False)] = None,
    methods: Annotated[str | None, typer.Option(help="Names, separated by commas [all that need no labels].", show_default=False)] = None,
    by: Annotated[str | None, typer.Option(help="Order by family, negatives or pretext; without --methods, the first two take one "
                                                "method for each [none].", show_default=False)] = None,
    finetune: Annotated[str | None, typer.Option(help="Fine-tune with so many labels, too: a fraction, or a count above 1 [none].",
                                                   show_default=False)] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps of every method [epochs].", show_default=False)] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes of every method over the data.")] = 10,
    seeds: Annotated[int, typer.Option(min=1, help="Runs a method; from 2 on intervals are over seeds.")] = 1,
    target: Target = None, group: GroupName = None, layout: Layout = None, modality: Modality = None, as_json: Json = False,
) -> None:
    """Train methods with one encoder and budget; table their probes beside random initialisation and raw input."""
    from .protocols import compare_methods as run_comparison

    table = run_comparison(data, test, methods=_words(methods), by=by, seeds=seeds, target=target, group=group,
                           layout=layout, modality=modality, finetune=read_budgets("--finetune", finetune)[0] if finetune else None,
                           say=lambda line: print(line, file=sys.stderr, flush=True),
                           **{**({"epochs": epochs} if steps is None else {"steps": steps}), **_settings(context, settings)})
    print(json.dumps(table.to_json()) if as_json else table.to_text())


@app.command()
def segment(
    run: RunPath,
    data: Data,
    masks: Annotated[str, typer.Argument(help="A mask an item, called like it; its values are the classes.")],
    held: Annotated[float, typer.Option(help="Part of the items that is scored.")] = 0.2,
    ignore: Annotated[str, typer.Option(help="Values of masks that are left out, separated by commas.")] = "255",
    seed: Annotated[int, typer.Option(min=0, help="Settles which items are scored.")] = 0,
    baselines: Annotated[bool, typer.Option(help="Include random initialisation and raw input.")] = True,
    as_json: Json = False,
) -> None:
    """Segment items by a linear map of the encoder's single tokens, and by their nearest tokens."""
    from .protocols import segment as run_segmentation

    encoder = _encoder(run)
    table = run_segmentation(encoder, _opened(encoder, data), masks, held=held, ignore=read_integers("--ignore", ignore), seed=seed,
                             baselines=("random", "raw") if baselines else (), say=lambda line: None if as_json else _say(line))
    print(json.dumps(table.to_json()) if as_json else table.to_text())


def _encoder(path: str) -> Any:
    from .encoder import Encoder

    return Encoder.load(path)


def _opened(encoder: Any, data: str, **options: str | None) -> Any:
    """The data as the encoder takes them; their notes go to standard error."""
    source = encoder.open(data, **options)
    for note in source.facts.notes:
        print(f"note: {note}", file=sys.stderr, flush=True)
    return source


def _words(text: str | None) -> list[str] | None:
    """`'a, b'` → ['a', 'b']."""
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


@app.command()
def embed(
    run: RunPath, data: Data,
    output: Annotated[str, typer.Option("-o", "--output", help="File to write: .npy, .npz (with names) or .parquet.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Items at a time.")] = 256,
    target: Target = None, group: GroupName = None, layout: Layout = None,
) -> None:
    """Write the embedding of every item, in order; rows of items that cannot be decoded are NaN."""
    from .api import write_embeddings

    encoder = _encoder(run)
    source = _opened(encoder, data, target=target, group=group, layout=layout)
    _say(write_embeddings(Path(output), encoder.embed(source, batch_size=batch_size), source))


@app.command()
def neighbours(
    run: RunPath, data: Data,
    item: Annotated[str, typer.Option(help="Row number, or a part of the item's name.")] = "0",
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="How many neighbours.")] = 10,
    output: Annotated[str | None, typer.Option("-o", "--output", help="PNG of the item and its neighbours [none].",
                                               show_default=False)] = None,
    layout: Layout = None, as_json: Json = False,
) -> None:
    """Show the items that lie nearest to one item in the embedding."""
    from .protocols import nearest_items

    encoder = _encoder(run)
    found = nearest_items(encoder, _opened(encoder, data, layout=layout), item, k=k, picture=output)
    print(json.dumps(found) if as_json else "\n".join(f"{n['similarity']:.3f}  {n['name']}" for n in found["neighbours"]))


@app.command()
def report(
    run: Annotated[str, typer.Argument(help="A run folder.")],
    data: Annotated[str | None, typer.Argument(help="Data to map and show [none: curves and plan only].", show_default=False)] = None,
    target: Target = None, layout: Layout = None,
) -> None:
    """Write report.html into the run folder: curves, map, neighbours, failures, plan and cost."""
    from .protocols import write_report
    from .stages import Run

    _say(f"report: {write_report(Run(run), data, target=target, layout=layout)}")


@app.command()
def export(
    run: RunPath,
    output: Annotated[str, typer.Option("-o", "--output", help="ONNX file; the preprocessing is written beside it.")],
) -> None:
    """Write the encoder as an ONNX graph and check it against the original."""
    difference = _encoder(run).export_onnx(output)
    _say(f"{output}: differs from the encoder by {difference:.1e} at most (relative); preprocessing in {output}.json")


@app.command()
def demo(
    out: Annotated[str | None, typer.Option(help="Run folder [runs/demo-N].", show_default=False)] = None,
    seed: Annotated[int, typer.Option(min=0, help="A whole number.")] = 0,
) -> None:
    """Pretrain on moved handwritten digits that come with scikit-learn, and compare (under 4 minutes on two cores)."""
    from .api import demo as run_demo

    run_demo(out=out, seed=seed, say=_say)


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="One to tell of: its name, FILE.py:NAME or MODULE:NAME [a line for each].",
                                               show_default=False)] = None,
) -> None:
    """List the methods and what they need, or tell of one: paper, options, recipe, what small networks get, modalities."""
    from . import methods as _  # noqa: F401  (enters the methods in the registry)
    from .contracts import find, names

    known = {n: find("method", n) for n in (names("method") if name is None else [name])}
    needs = {n: ["tokens"] * bool(m.needs.backbone) + ["labels"] * m.labelled for n, m in known.items()}
    if name is None:
        _table([("method", "needs", ""), *((n, " ".join(needs[n]), (m.__doc__ or "").partition("\n")[0]) for n, m in known.items())])
        return
    method = known[name]
    recipe = {n if n in KEYS else f"training.{n}": value for n, value in vars(method.defaults).items() if value not in ({}, None)}
    small = {key if "." in key else f"method.{key}": value for key, value in method.small.items()}
    _tell(method.__doc__, method.__init__.__doc__ if method.options() else None,
          needs=", ".join([method.needs.what, *needs[name]]), options={f"method.{n}": v for n, v in method.options().items()},
          recipe=recipe, in_small_networks_and_short_runs=small, modalities=_reach(method))


def _reach(method: Any) -> str:
    """The modalities that a method can be trained on, and why not on the others: a small run of it is planned for each."""
    from .contracts import NotApplicable
    from .testing import EXTRA, MODALITIES, draft, source_of

    refused = {}
    for modality in (*MODALITIES, *EXTRA):
        try:
            draft(method, modality, source_of(modality, 64))
        except NotApplicable as reason:
            refused[modality] = reason
    taken = ", ".join(m for m in (*MODALITIES, *EXTRA) if m not in refused) or "none"
    return f"{taken}." + "".join(f" Not {m}: {reason}" for m, reason in refused.items())


@app.command()
def backbones(
    name: Annotated[str | None, typer.Argument(help="One to tell of [a line for each].", show_default=False)] = None,
) -> None:
    """List the built-in backbones, or tell of one: its options and their defaults."""
    from inspect import signature

    from . import networks as _  # noqa: F401  (enters the backbones in the registry)
    from .contracts import find, names

    known = {n: find("backbone", n) for n in (names("backbone") if name is None else [name])}
    options = {n: {p.name: p.default for p in signature(b).parameters.values() if p.kind is p.KEYWORD_ONLY} for n, b in known.items()}
    if name is None:
        _table([("backbone", "options"), *((n, " ".join(options[n])) for n in known)])
    else:
        _tell(known[name].__doc__, options={f"backbone.{n}": v for n, v in options[name].items()})


def _tell(*docstrings: str | None, **parts: Any) -> None:
    """The docstrings, then each part by its name: a sentence, or settings as they are written."""
    import textwrap
    from inspect import cleandoc

    for text in filter(None, docstrings):
        print(f"{cleandoc(text)}\n")
    for title, part in parts.items():
        said = part if isinstance(part, str) else " ".join(f"{key}={_typed(value)}" for key, value in part.items())
        if said:
            print(textwrap.fill(f"{title.replace('_', ' ')}: {said}", 120, subsequent_indent="    ", break_long_words=False,
                                break_on_hyphens=False))


def _typed(value: Any) -> str:
    """A value as a person types it: `none`, `true`, `0.3,1`."""
    if isinstance(value, (tuple, list)):
        return ",".join(map(_typed, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


@app.command()
def systems(
    area: Annotated[str | None, typer.Option(help="Only this area of the literature [all].", show_default=False)] = None,
    state: Annotated[str | None, typer.Option(help="Only planned, runs, holds or does-not-hold [all].", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """List the 379 systems of the literature and where each stands here."""
    from .systems import systems as listed

    found = listed(area=area, state=state)
    if as_json:
        print(json.dumps([{k: getattr(s, k) for k in ("id", "title", "area", "state", "data", "result")} for s in found]))
    else:
        for s in found:
            print(f"{s.id}  {s.state:<13} {s.area:<26} {s.title}\n      {s.line}")
        print(f"{len(found)} systems")


@app.command()
def prove(
    id: Annotated[str, typer.Argument(help="A system's id, such as S378.")],
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds [as registered].", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Run a system's proof: its arms, paired by seed, and whether each claim holds. Arms already run are taken from the cache."""
    from .systems import prove as run_proof
    from .systems import summary

    result = run_proof(id, seeds=seeds, say=(lambda line: print(line, file=sys.stderr, flush=True)))
    if as_json:
        print(json.dumps(summary(result)))
        return
    for claim in result["claims"]:
        print(f"{'holds' if claim['holds'] else 'does not hold'}: {claim['statement']}\n    measured {claim['measured']}, baseline "
              f"{claim['baseline']}, interval {claim['interval']}")


if __name__ == "__main__":
    main()
