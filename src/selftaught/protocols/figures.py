"""Figures of the report as inline SVG: small multiples of curves, scores against label budgets; in the page's type and ink."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

_LINE = 13.0  # height of a label, pixels


def number(value: float | None, digits: int = 3, *, zeros: bool = False) -> str:
    """A number with `digits` significant digits, as people write it. zeros: keeps those at the end, so that columns align."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 10**digits:
        return f"{value:,.0f}"
    text = f"{value:#.{digits}g}".rstrip(".") if zeros else f"{value:.{digits}g}"
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    return f"{mantissa}·10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def ticks(low: float, high: float, count: int = 3) -> list[float]:
    """About `count` round numbers within [low, high]."""
    if not high > low:
        return [low]
    step = 10 ** math.floor(math.log10((high - low) / count))
    step = next(s for s in (step, 2 * step, 5 * step, 10 * step) if (high - low) / s <= count + 1.5)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def apart(wanted: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """Positions near the wanted ones, at least `least` apart and within [low, high] where there is room."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    places = [0.0] * len(wanted)
    at = low - least
    for i in order:
        at = places[i] = max(wanted[i], at + least)
    at = high + least
    for i in reversed(order):
        at = places[i] = min(places[i], at - least)
    return places


class Panel:
    """One small chart: a frame of two axes that data are placed in.

    x, y: (low, high) of the data. right: pixels kept free for direct labels. log: whether x is logarithmic.
    """

    def __init__(self, x: tuple[float, float], y: tuple[float, float], *, width: float = 330, height: float = 170,
                 right: float = 62, log: bool = False):
        self.width, self.height, self.log = width, height, log
        self.left, self.top, self.right, self.bottom = 46.0, 10.0, width - right, height - 24.0
        self.inset = 14.0 if log else 0.0  # room for points that are moved apart
        self.x = tuple(math.log10(max(v, 1e-12)) for v in x) if log else x
        pad = 0.06 * (y[1] - y[0]) or 0.05 * abs(y[0]) or 0.5
        self.y = (y[0] - pad, y[1] + pad)
        self.parts: list[str] = []

    def across(self, value: float) -> float:
        value = math.log10(max(value, 1e-12)) if self.log else value
        span = self.x[1] - self.x[0]
        left, right = self.left + self.inset, self.right - self.inset
        return (left + right) / 2 if not span else left + (value - self.x[0]) / span * (right - left)

    def down(self, value: float) -> float:
        return self.bottom - (value - self.y[0]) / (self.y[1] - self.y[0]) * (self.bottom - self.top)

    def axes(self, x_ticks: Sequence[tuple[float, str]]) -> None:
        for value in ticks(*self.y):
            y = self.down(value)
            self.parts.append(f'<line class="rule" x1="{self.left}" x2="{self.right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
                              f'<text class="tick" x="{self.left - 6}" y="{y + 4:.1f}" text-anchor="end">{number(value)}</text>')
        for place, (value, text) in enumerate(x_ticks):
            inner = 0 < place < len(x_ticks) - 1 or len(x_ticks) == 1 or self.log
            anchor = "middle" if inner else "start" if place == 0 else "end"
            self.parts.append(f'<text class="tick" x="{self.across(value):.1f}" y="{self.height - 6}" text-anchor="{anchor}">'
                              f"{escape(text)}</text>")

    def line(self, xs: Sequence[float], ys: Sequence[float], ink: str, shift: float = 0.0) -> None:
        points = " ".join(f"{self.across(a) + shift:.1f},{self.down(b):.1f}" for a, b in zip(xs, ys))
        self.parts.append(f'<polyline class="line {ink}" points="{points}"/>')

    def band(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], ink: str) -> None:
        around = [*zip(xs, high), *reversed(list(zip(xs, low)))]
        points = " ".join(f"{self.across(a):.1f},{self.down(b):.1f}" for a, b in around)
        self.parts.append(f'<polygon class="band {ink}" points="{points}"/>')

    def interval(self, x: float, value: float, low: float, high: float, ink: str, title: str, shift: float) -> None:
        at = self.across(x) + shift
        self.parts.append(f'<g class="{ink}"><title>{escape(title)}</title>'
                          f'<line class="line" x1="{at:.1f}" x2="{at:.1f}" y1="{self.down(low):.1f}" y2="{self.down(high):.1f}"/>'
                          f'<circle class="dot" cx="{at:.1f}" cy="{self.down(value):.1f}" r="3"/></g>')

    def labels(self, ends: Sequence[tuple[float, str, str]]) -> None:
        """Direct labels right of the lines' ends: (value, text, ink)."""
        places = apart([self.down(v) for v, _, _ in ends], _LINE, self.top + 4, self.bottom)
        for y, (_, text, ink) in zip(places, ends):
            self.parts.append(f'<text class="label {ink}" x="{self.right + 8:.1f}" y="{y + 4:.1f}">{escape(text)}</text>')

    def svg(self, described: str) -> str:
        return (f'<svg viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label="{escape(described)}">'
                f'{"".join(self.parts)}</svg>')


def curve_panel(title: str, curves: dict[str, dict[str, Any]]) -> str:
    """One or a few curves ({label: {"step", "value", "low", "high", "group"}}), the last values written at their ends."""
    last = max(c["step"][-1] for c in curves.values())
    first = min(c["step"][0] for c in curves.values())
    low = min(min(c["low"]) for c in curves.values())
    high = max(max(c["high"]) for c in curves.values())
    panel = Panel((first, last), (low, high), right=108 if len(curves) > 1 else 62)
    panel.axes([(first, f"{first:,}"), (last, f"step {last:,}")] if last > first else [(first, f"step {first:,}")])
    ends = []
    for place, (label, curve) in enumerate(curves.items()):
        ink = f"ink{place}"
        if curve["group"] > 1:
            panel.band(curve["step"], curve["low"], curve["high"], ink)
        panel.line(curve["step"], curve["value"], ink)
        ends.append((curve["value"][-1], f"{label} {number(curve['value'][-1])}".strip(), ink))
    panel.labels(ends)
    said = ", ".join(text for _, text, _ in ends)
    return _figure(title, panel.svg(f"{title} against steps; at the end {said}"))


def budget_panel(title: str, rows: Sequence[tuple[str, str, Sequence[tuple[int, float, float, float]]]]) -> str:
    """Scores against the number of labels. rows: (name, ink, [(labels, value, low, high)]); bars are the intervals."""
    points = [p for _, _, row in rows for p in row]
    counts = sorted({p[0] for p in points})
    reach = min(p[2] for p in points), max(p[3] for p in points)
    panel = Panel((counts[0], counts[-1]), reach, width=400, height=240, right=104, log=True)
    panel.axes([(c, f"{c:,}" + (" labels" if c == counts[0] else "")) for c in counts])
    ends = []
    for place, (name, ink, row) in enumerate(rows):
        shift = (place - (len(rows) - 1) / 2) * 3.0
        panel.line([p[0] for p in row], [p[1] for p in row], ink, shift)
        for labels, value, low, high in row:
            said = f"{name}, {labels:,} labels: {value:.3f} [{low:.3f}, {high:.3f}]"
            panel.interval(labels, value, low, high, ink, said, shift)
        ends.append((row[-1][1], name, ink))
    panel.labels(ends)
    return _figure(title, panel.svg(f"{title} against the number of labels"))


def _figure(title: str, svg: str) -> str:
    return f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>"
