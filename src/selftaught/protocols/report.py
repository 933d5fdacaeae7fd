"""`write_report`: one self-contained page on a run, and the numbers behind it as JSON."""

from __future__ import annotations

import base64
import io
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

from ..contracts import Source
from ..contracts.stored import write_text
from ..encoder import Encoder
from . import report_sections as sections
from .nearest import pictured
from .page import page, paragraph, section
from .report_comparison import comparison
from .report_facts import read_table, run_facts
from .report_items import item_facts
from .table import Table

_NAMES = {"comparison": "Comparison", "curves": "Curves", "map": "Map", "neighbours": "Neighbours", "failures": "Failures",
          "quarantine": "Bad items", "plan": "Plan", "cost": "Cost", "health": "Health", "lineage": "Lineage"}

_COLOURS = 96  # of a picture: a third of its bytes, and no difference at this size


def write_report(run: Any, data: Any = None, *, target: str | None = None, layout: str | None = None,
                 table: Table | None = None, seed: int = 0) -> Path:
    """Writes report.html and report.json into the run's folder and returns the path of the page.

    run: a Run (`folder`, `decisions`, `summary`, `metrics()`, `value()`, `encoder`). data: what to map and show, a Source or
    whatever `open_source` takes with `target` and `layout`; None leaves those parts out, as does a run without an encoder.
    table: the comparison (default: evaluation.json of the folder, if there is one). seed: settles the map and the chosen items.
    """
    folder = Path(run.folder)
    facts = run_facts(run, table if table is not None else read_table(folder))
    encoder, source = None, None
    if data is not None and (folder / "encoder" / "encoder.json").is_file():
        encoder = run.encoder
        source = encoder.open(data, **({} if isinstance(data, Source) else {"target": target, "layout": layout}))
        facts |= item_facts(encoder, source, seed=seed)
    write_text(folder / "report.json", json.dumps(_finite(facts), indent=1))
    html = _html(facts, encoder, source, seed, wanted=data is not None)
    write_text(folder / "report.html", html)
    return folder / "report.html"


def _html(facts: dict[str, Any], encoder: Encoder | None, source: Source | None, seed: int, *, wanted: bool) -> str:
    @cache
    def pictures(index: int) -> str | None:
        return _data_uri(pictured(encoder, source, index))

    parts = [comparison(facts["table"]), sections.curves(facts)]
    if "embedding" in facts:
        parts.append(sections.embedding_map(facts, pictures, seed))
        parts += [sections.neighbours(facts, pictures), sections.failures(facts, pictures)]
    else:
        why = ("This run has no encoder to embed the data with: it did not finish." if wanted else
               "No data were given to map and show: selftaught report RUN DATA adds them.")
        parts.append(section("map", "Map, neighbours and failures", paragraph(why, "muted")))
    parts += [part(facts) for part in (sections.quarantine, sections.plan, sections.cost, sections.health, sections.lineage)]
    shown = [name for name in _NAMES if any(p.startswith(f'<section id="{name}"') for p in parts)]
    links = "".join(f'<a href="#{name}">{_NAMES[name]}</a>' for name in shown)
    return page(facts["headline"]["learned"], "\n".join([sections.headline(facts), f"<nav>{links}</nav>", *filter(None, parts)]))


def _data_uri(image: Any) -> str | None:
    """A uint8 [H, W, 3] picture as an inline PNG."""
    if image is None:
        return None
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).quantize(_COLOURS).save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _finite(value: Any) -> Any:
    """The same with None for what JSON cannot hold (NaN, infinity)."""
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
