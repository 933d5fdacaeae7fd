"""The embedding map as inline SVG: a dot an item, colours and names of classes, thumbnails where they fit without touching."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import numpy as np

WIDTH, MARGIN, THUMB, GAP = 960, 26, 34, 9  # units of the drawing; a thumbnail's side and the distance between two
COLOURS = 10  # classes beyond these share the last one
_THUMBS = 60
Box = tuple[float, float, float, float]


def class_inks(points: Sequence[dict[str, Any]], classes: Sequence[str] | None) -> dict[Any, str]:
    """Class → CSS class of its colour: the most frequent classes get one each, the others share 'other'."""
    labels = [p["label"] for p in points if p.get("label") is not None]
    if not classes:
        return {}
    frequent = [c for c, _ in Counter(labels).most_common()]
    kept = frequent if len(frequent) <= COLOURS else frequent[: COLOURS - 1]
    order = sorted(kept, key=list(classes).index)
    return {**{c: "other" for c in frequent}, **{c: f"class{i}" for i, c in enumerate(order)}}


def number_inks(points: Sequence[dict[str, Any]]) -> tuple[list[str], list[float]]:
    """CSS class of every point by the fifth that its numeric label lies in ('none' without one), and the four limits."""
    values = [p.get("label") for p in points]
    there = np.array([v for v in values if v is not None], dtype=np.float64)
    limits = np.quantile(there, (0.2, 0.4, 0.6, 0.8)) if len(there) else np.zeros(4)
    return ["none" if v is None else f"fifth{int(np.searchsorted(limits, v, side='right'))}" for v in values], limits.tolist()


def map_figure(points: Sequence[dict[str, Any]], inks: Sequence[str], names: dict[str, str],
               thumbnail: Callable[[int], str | None], *, seed: int = 0) -> str:
    """The map. points: {"x", "y", "name", "label", "index"}; inks: CSS class of each; names: CSS class → text written where
    it is densest; thumbnail: index of an item → data URI or None."""
    places = np.array([(p["x"], p["y"]) for p in points], dtype=np.float64).reshape(-1, 2)
    span = WIDTH - 2 * MARGIN
    height = round(max(float(places[:, 1].max()) if len(places) else 0.0, 0.25) * span + 2 * MARGIN)
    at = np.stack([MARGIN + places[:, 0] * span, height - MARGIN - places[:, 1] * span], axis=1)  # [n, 2]
    written, boxes = _names(at, inks, names)
    dots = [f'<circle class="{ink}" cx="{x:.1f}" cy="{y:.1f}" r="2.8"><title>{escape(_said(p))}</title></circle>'
            for p, ink, (x, y) in zip(points, inks, at)]
    pictures = []
    for i in _chosen(at, boxes, height, seed):
        uri = thumbnail(points[i]["index"])
        if uri:
            x, y = at[i] - THUMB / 2
            box = f'x="{x:.1f}" y="{y:.1f}" width="{THUMB}" height="{THUMB}"'
            pictures.append(f'<g class="thumb {inks[i]}"><title>{escape(_said(points[i]))}</title><rect {box}/>'
                            f'<image href="{uri}" {box} preserveAspectRatio="xMidYMid meet"/><rect class="edge" {box}/></g>')
    return (f'<svg class="map" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Map of {len(points)} items">'
            f'<g class="dots">{"".join(dots)}</g>{"".join(pictures)}{"".join(written)}</svg>')


def _said(point: dict[str, Any]) -> str:
    label = point.get("label")
    return point["name"] if label is None else f"{point['name']}: {label if isinstance(label, str) else f'{label:.4g}'}"


def _chosen(at: np.ndarray, taken: list[Box], height: float, seed: int) -> list[int]:
    """Items whose thumbnails touch neither each other nor a name, in an order that the seed settles."""
    least, chosen = THUMB + GAP, []
    for i in np.random.default_rng(seed).permutation(len(at)):
        x, y = at[i]
        if len(chosen) == _THUMBS:
            break
        if not (THUMB / 2 <= x <= WIDTH - THUMB / 2 and THUMB / 2 <= y <= height - THUMB / 2):
            continue
        clear = all(max(abs(x - at[j][0]), abs(y - at[j][1])) >= least for j in chosen)
        if clear and not any(_meets((x - THUMB / 2, y - THUMB / 2, x + THUMB / 2, y + THUMB / 2), box) for box in taken):
            chosen.append(int(i))
    return sorted(chosen)


def _meets(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _names(at: np.ndarray, inks: Sequence[str], names: dict[str, str]) -> tuple[list[str], list[Box]]:
    """Each class's name where its items are densest and no other name stands."""
    written, boxes = [], []
    inks = np.array(inks)
    for ink, text in names.items():
        own = at[inks == ink]
        if not len(own):
            continue
        near = (np.abs(own[:, None] - own[None]) < 40).all(2).sum(1)
        half = 5.5 * max(len(text), 2)
        for x, y in own[np.argsort(-near, kind="stable")]:
            x = min(max(x, half), WIDTH - half)
            box = (x - half, y - 14, x + half, y + 10)
            if not any(_meets(box, other) for other in boxes):
                boxes.append(box)
                written.append(f'<text class="name {ink}" x="{x:.1f}" y="{y + 6:.1f}" text-anchor="middle">{escape(text)}</text>')
                break
    return written, boxes
