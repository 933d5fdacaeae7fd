"""The sections of the report as HTML, from its numbers and the pictures of its items."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape
from typing import Any

from ..training import duration
from .figures import curve_panel, number
from .figures_map import class_inks, map_figure, number_inks
from .page import bullets, paragraph, section, table
from .report_facts import HEALTH

Pictures = Callable[[int], str | None]
_TOGETHER = {"effective rank": {"head": "head_rank", "features": "features_rank"},
             "spread": {"head": "head_spread", "features": "features_spread"}}


def headline(facts: dict[str, Any]) -> str:
    head = facts["headline"]
    good = head["verdict"] == "healthy"
    return (f'<header><h1>{escape(head["learned"])}</h1><p class="muted">{escape(head["how"])}</p>'
            f'<p class="verdict{"" if good else " bad"}"><b>{head["verdict"].capitalize()}.</b> '
            f'{escape(head["sentence"])}</p>{bullets(w[0].upper() + w[1:] + "." for w in head["winners"])}</header>')


def curves(facts: dict[str, Any]) -> str:
    """Loss and named terms, learning rate, effective rank, spread, gradient norm."""
    found = facts["curves"]
    if not found:
        return section("curves", "Curves", paragraph("No metrics were written.", "muted"))
    named = [k for k in found if k not in ("loss", "lr", *HEALTH)]
    panels = [curve_panel(k.replace("_", " "), {"": found[k]}) for k in ["loss", *named] if k in found]
    panels += [curve_panel("learning rate", {"": found["lr"]})] if "lr" in found else []
    for title, pair in _TOGETHER.items():
        present = {label: found[key] for label, key in pair.items() if key in found}
        panels += [curve_panel(title, present)] if present else []
    panels += [curve_panel("gradient norm", {"": found["gradient_norm"]})] if "gradient_norm" in found else []
    group = max(c["group"] for c in found.values())
    thinned = f" A line is the mean of up to {group} logged values in a row, its band their extremes." if group > 1 else ""
    text = (
        "Against optimiser steps; the last value stands at the end of its line. Effective rank is the number of directions in "
        f"use, spread is 1 where outputs point evenly everywhere and 0 where all are the same.{thinned}")
    return section("curves", "Curves", paragraph(text, "small"), f'<div class="panels">{"".join(panels)}</div>')


def embedding_map(facts: dict[str, Any], pictures: Pictures, seed: int) -> str:
    found = facts["embedding"]
    points, classes = found["points"], found["classes"]
    of = f"{found['items']:,} items" if found["items"] == found["of"] else f"{found['items']:,} of {found['of']:,} items"
    text = f"{of}, {found['width']} numbers each, laid out by {found['projection']}. "
    text += "Nearness on the map is only roughly nearness in the embedding." if "t-SNE" in found["projection"] else ""
    names: dict[str, str] = {}
    if classes and found["labelled"]:
        by_label = class_inks(points, classes)
        inks = [by_label.get(p.get("label"), "none") for p in points]
        names = {ink: str(label) for label, ink in by_label.items() if ink != "other"}
        legend = sorted(names.items(), key=lambda entry: classes.index(entry[1]))
        rest = sum(ink == "other" for ink in by_label.values())
        legend += [("other", f"{rest} other classes")] if rest else []
    elif found["labelled"]:
        inks, limits = number_inks(points)
        ends = ["lowest", *(number(v) for v in limits), "highest"]
        legend = [(f"fifth{i}", f"{ends[i]} to {ends[i + 1]}") for i in range(5)]
        text += " Coloured by the fifth that its label lies in."
    else:
        inks, legend = ["ink0"] * len(points), []
    legend += [("none", "no label")] if legend and "none" in inks else []
    shown = {ink: name for ink, name in names.items() if ink in inks}
    drawn = map_figure(points, inks, shown, pictures, seed=seed)
    return section("map", "Map of the embedding", paragraph(text, "small"), drawn, _legend(legend))


def _legend(entries: list[tuple[str, str]]) -> str:
    buttons = "".join(f'<button type="button" value="{ink}"><i class="{ink}"></i>{escape(text)}</button>' for ink, text in entries)
    return f'<div class="legend">{buttons}</div>' if buttons else ""


def _label(value: Any) -> str:
    return "" if value is None else escape(value if isinstance(value, str) else number(value, 4))


def _item(entry: dict[str, Any], pictures: Pictures, kind: str = "", under: str = "") -> str:
    uri = pictures(entry["index"])
    same, label = entry.get("same"), entry.get("label")
    kind = kind or {True: "same", False: "differs"}.get(same, "")
    image = f'<img src="{uri}" alt="">' if uri else ""
    named = "" if label is None else f'<span class="label">{"≠ " if same is False else ""}{_label(label)}</span>'
    return f'<div class="item {kind}" title="{escape(entry["name"])}">{image}{named}<span class="at">{escape(under)}</span></div>'


def _row(entry: dict[str, Any], pictures: Pictures, said: str = "") -> str:
    near = "".join(_item(n, pictures, under=f"{n['similarity']:.3f}") for n in entry["neighbours"])
    text = f'<div class="said">{said}</div>' if said else ""
    numbered = entry["name"].endswith(f" {entry['index']}")  # rows of an array or table have no names of their own
    query = _item(entry, pictures, "query", f"item {entry['index']}" if numbered else entry["name"].rpartition("/")[2])
    return f'<div class="row">{query}{text}{near}</div>'


def neighbours(facts: dict[str, Any], pictures: Pictures) -> str:
    rows = facts["neighbours"]
    if not rows:
        return section("neighbours", "Neighbours", paragraph("Too few items to have neighbours.", "muted"))
    labelled = any("same" in n for r in rows for n in r["neighbours"])
    text = f"{len(rows)} items from all over the embedding (k-means medoids), each with its nearest ones and their cosine. "
    text += f"Two items taken at random have {facts['embedding']['mean_similarity']:.3f} on average. "
    text += "A solid frame: the same label; a dashed one and ≠: another label." if labelled else ""
    return section("neighbours", "Neighbours", paragraph(text, "small"), *(_row(r, pictures) for r in rows))


def failures(facts: dict[str, Any], pictures: Pictures) -> str:
    found = facts["failures"]
    if not found:
        return ""
    rows, voters = found["items"], found["voters"]
    if found["kind"] == "isolation":
        title, text = "Outliers", (f"There are no labels; these items lie farthest from their {voters} nearest neighbours (mean "
                                   f"cosine; its median over all items is {found['median_similarity']:.3f}).")
        said = [f"<b>{r['mean_similarity']:.3f}</b><br><span class=muted>mean similarity</span>" for r in rows]
    elif found["kind"] == "deviation":
        title, text = "Failures", f"The items whose label lies farthest from the mean of their {voters} nearest neighbours' labels."
        said = [f"label <b>{number(r['label'], 4)}</b>, neighbours' mean <b>{number(r['expected'], 4)}</b><br><span class=muted>"
                f"{r['deviations']:.1f} standard deviations apart</span>" for r in rows]
    else:
        share = "–" if found["agreement"] is None else f"{found['agreement']:.1%}"
        title, text = "Failures", (f"Of the {voters} nearest neighbours of an item, {share} share its label on average. Below, the "
                                   "items whose neighbours agree least: hard items, or wrong labels.")
        said = [f"labelled <b>{_label(r['label'])}</b>, neighbours mostly <b>{_label(r['majority'])}</b><br><span class=muted>"
                f"{r['agreement']:.0%} agree</span>" for r in rows]
    confused = [[c["label"], c["neighbours"], f"{c['items']:,}"] for c in found.get("confusions", ())]
    mixed = table(["label", "neighbours mostly", "items"], confused, numeric=(2,)) if confused else ""
    return section("failures", title, paragraph(text, "small"), mixed, *(_row(r, pictures, s) for r, s in zip(rows, said)))


def quarantine(facts: dict[str, Any]) -> str:
    found = facts["quarantine"]
    bad, twice = found["bad_items"], found["duplicates"]
    many = ("Duplicates were not counted." if twice is None else "No duplicates were seen." if not twice else
            f"{twice:,} item{'s have' if twice > 1 else ' has'} the same contents as another one.")
    text = f"{bad:,} item{'s' if bad > 1 else ''} could not be read." if bad else "Every item asked for could be read."
    parts = [bullets(f"{n:,} × {reason}" for reason, n in found["reasons"].items()) if len(found["reasons"]) < bad else ""]
    if found["first"]:
        rows = [[str(e.get(key)) for key in ("name", "index", "reason")] for e in found["first"]]
        parts.append(table(["item", "place", "reason"], rows, numeric=(1,)))
    if bad > len(found["first"]):
        parts.append(paragraph(f"The first {len(found['first'])} of {bad:,}; all are in quarantine.jsonl.", "small"))
    return section("quarantine", "Bad items and duplicates", paragraph(f"{text} {many}"), *parts)


def plan(facts: dict[str, Any]) -> str:
    rows = [[d["key"], _value(d.get("value")), str(d.get("by", "")), d.get("reason") or "default"] for d in facts["plan"]]
    return section("plan", "Plan",
                   paragraph("Every decision of the run, who took it (user, recipe of the method, or plan) and why.", "small"),
                   table(["decision", "value", "by", "reason"], rows),
                   paragraph("Noticed in the data:", "small") + bullets(facts["data"]["notes"]) if facts["data"]["notes"] else "")


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else "–" if value is None else json.dumps(value)


def cost(facts: dict[str, Any]) -> str:
    found = facts["cost"]
    rows = [["time in all", duration(found["seconds"])]] if "seconds" in found else []
    rows += [["time training", duration(found["training_seconds"])]] if "training_seconds" in found else []
    rows += [["samples", f"{found['samples']:,}"]] if "samples" in found else []
    rows += [["samples a second", f"{found['samples_per_second']:,.0f}"]] if "samples_per_second" in found else []
    rows += [["waiting for data", f"{found['data_wait']:.1%} of the time"]] if "data_wait" in found else []
    rows += [["encoder on disk", _bytes(found["encoder_bytes"])]] if "encoder_bytes" in found else []
    rows += [["run folder", _bytes(found["folder_bytes"])]]
    rows += [[f"comparison: {k}", f"{v:,.0f} s"] for k, v in found.get("comparison_seconds", {}).items()]
    return section("cost", "Cost", table(["", ""], rows, numeric=(1,)))


def _bytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"


def health(facts: dict[str, Any]) -> str:
    rows = [[HEALTH[k], *(number(v[when], zeros=True) for when in ("first", "lowest", "last")), f"{v['checks']:,}"]
            for k, v in facts["health"].items()]
    head = facts["headline"]
    body = table(["measure", "first", "lowest", "last", "checks"], rows, numeric=(1, 2, 3, 4)) if rows else ""
    return section("health", "Health", paragraph(f"{head['verdict'].capitalize()}. {head['sentence']}"), body)


def lineage(facts: dict[str, Any]) -> str:
    rows = [[k, _value(v)] for k, v in facts["lineage"].items() if v is not None]
    return section("lineage", "Lineage",
                   paragraph("What to quote: the same data fingerprint, version, seed and plan give the same run.", "small"),
                   table(["", ""], rows))
