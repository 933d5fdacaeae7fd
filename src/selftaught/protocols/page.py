"""The page that a report is written on: one typeface, few colours that the colour-blind tell apart, light, dark and printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

# Paul Tol's muted scheme and Okabe and Ito's colours; the dark values are the same hues, lifted.
_LIGHT = {
    "paper": "#ffffff", "ink": "#1d1f21", "muted": "#5f6368", "rule": "#dcdee1", "tint": "#f4f5f6", "blue": "#0072b2",
    "red": "#c04a00",
    "class": ("#cc6677", "#332288", "#b8a032", "#117733", "#3fa7d6", "#882255", "#44aa99", "#7d7d1e", "#aa4499", "#777777"),
    "fifth": ("#00224e", "#434e6c", "#7d7c78", "#bcaf6f", "#e0cb4a"),
}
_DARK = {
    "paper": "#16181a", "ink": "#e4e6e8", "muted": "#a0a5aa", "rule": "#3a3e42", "tint": "#202326", "blue": "#56b4e9",
    "red": "#f08a4b",
    "class": ("#e0808f", "#8f86e8", "#ddcc77", "#3fae62", "#88ccee", "#d0609a", "#5fcab8", "#b9b950", "#d57fc8", "#a0a0a0"),
    "fifth": ("#5a78b0", "#8088a0", "#a3a29c", "#cdbf7c", "#fde456"),
}


def _variables(theme: dict) -> str:
    plain = [f"--{k}:{v}" for k, v in theme.items() if isinstance(v, str)]
    listed = [f"--{k}{i}:{c}" for k, v in theme.items() if not isinstance(v, str) for i, c in enumerate(v)]
    return ";".join(plain + listed)


_INKS = {"ink0": "blue", "ink1": "red", "encoder": "blue", "supervised": "red", "boosting": "class3", "raw": "ink",
         "random": "muted", "other": "muted", "none": "muted",
         **{c: c for c in (*(f"class{i}" for i in range(10)), *(f"fifth{i}" for i in range(5)))}}

_RULES = """
*{box-sizing:border-box}
html{background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif;
 font-variant-numeric:tabular-nums;-webkit-text-size-adjust:100%}
body{max-width:66rem;margin:0 auto;padding:2.5rem 1.25rem 5rem}
h1{font-size:1.7rem;line-height:1.25;margin:0 0 .6rem;font-weight:650;letter-spacing:-.01em}
h2{font-size:1.2rem;margin:0 0 .4rem;font-weight:650}
section{margin-top:3.4rem}
p,ul,dl{margin:.4rem 0 .9rem;max-width:44rem}
ul{padding-left:1.1rem}
a{color:var(--blue)}
.muted,.small{color:var(--muted)}.small{font-size:.85rem}
.verdict{font-size:1.08rem}.verdict b{color:var(--blue)}.verdict.bad b{color:var(--red)}
nav{margin-top:1.2rem;font-size:.9rem;display:flex;flex-wrap:wrap;gap:.2rem 1.1rem}
nav a{text-decoration:none}nav a:hover{text-decoration:underline}
.scroll{overflow-x:auto;margin:.8rem 0}
table{border-collapse:collapse;font-size:.9rem}
th,td{text-align:left;padding:.38rem 1.1rem .38rem 0;vertical-align:top;border-bottom:1px solid var(--rule)}
thead th{font-weight:600;vertical-align:bottom}
thead tr:not(:last-child) th{border-bottom:0;padding-bottom:0}
thead th.group{text-align:center;border-bottom:1px solid var(--rule)!important;padding:.2rem 0}
.gap{padding-left:1.4rem}
th[scope=row]{font-weight:500}
.num{text-align:right;white-space:nowrap}
.num small{display:block;color:var(--muted);font-size:.78rem}
.best{font-weight:700}.best small{font-weight:400}
.mark{display:inline-block;width:1.2em;text-align:left;color:var(--blue);font-weight:400}
.key{white-space:nowrap}
dt{font-weight:600}dd{margin:0 0 .45rem}
.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(17rem,1fr));gap:1.4rem 1.6rem;margin:1rem 0}
.panels.two{grid-template-columns:repeat(auto-fill,minmax(min(100%,24rem),1fr))}
figure{margin:0}figcaption{font-size:.9rem;font-weight:600;margin-bottom:.2rem}
svg{display:block;width:100%;height:auto;overflow:visible}
svg text{font-size:11.5px;fill:var(--muted)}
svg .label{fill:var(--c)}
.rule{stroke:var(--rule);stroke-width:1}
.line{fill:none;stroke:var(--c);stroke-width:1.7;stroke-linejoin:round}
.band{fill:var(--c);opacity:.18}.dot{fill:var(--c)}
.map{margin:1rem 0 .4rem}
.map circle{fill:var(--c,var(--blue))}.map .edge{fill:none;stroke:var(--c,var(--muted));stroke-width:1.6}
.map .thumb rect:first-of-type{fill:var(--paper)}
.map .name{font-size:19px;font-weight:650;fill:var(--ink);stroke:var(--paper);stroke-width:5;
 paint-order:stroke;stroke-linejoin:round}
.faint{opacity:.08}
.legend{display:flex;flex-wrap:wrap;gap:.2rem .9rem;font-size:.85rem;margin:.5rem 0}
.legend button{font:inherit;color:inherit;background:none;border:0;padding:.1rem 0;cursor:pointer}
.legend button[aria-pressed=true]{text-decoration:underline;text-underline-offset:.25em}
.legend i{display:inline-block;width:.75em;height:.75em;border-radius:50%;background:var(--c);margin-right:.4em}
.row{display:flex;flex-wrap:wrap;gap:.7rem .6rem;padding:1rem 0;border-bottom:1px solid var(--rule);align-items:flex-start;
 break-inside:avoid}
.item{width:5.1rem;font-size:.78rem;line-height:1.3;text-align:center}
.item img{display:block;width:4.6rem;height:4.6rem;object-fit:contain;margin:0 auto .25rem;
 border:2px solid transparent;background:var(--tint)}
.item.query{margin-right:1rem}.item.query img{border-color:var(--ink)}
.item.same img{border-color:var(--blue)}.item.differs img{border:2px dashed var(--red)}
.item.differs .label{color:var(--red)}
.item .label{display:block;overflow-wrap:anywhere}.item .at{display:block;color:var(--muted);overflow-wrap:anywhere}
.said{width:11rem;font-size:.88rem;overflow-wrap:anywhere}
@media (max-width:38rem){html{font-size:15px}body{padding-top:1.4rem}section{margin-top:2.6rem}
 .map .name{font-size:34px;stroke-width:8}.map circle{r:4.5px}
 .row{display:grid;grid-template-columns:repeat(5,1fr);gap:.6rem .3rem}.said{width:auto;grid-column:span 4}
 .item{width:auto}.item img{width:100%;height:auto;aspect-ratio:1}.item.query{margin-right:0}}
@media print{body{max-width:none;padding:0}nav,.legend button[aria-pressed=true]{display:none}section{margin-top:2rem}
 .scroll{overflow:visible}table{font-size:.75rem}h2,figcaption,h2+p{break-after:avoid}figure,tr{break-inside:avoid}
 *{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""

# Choosing a class in the legend fades the others.
_SCRIPT = """
document.querySelectorAll('.legend button').forEach(function(b){b.onclick=function(){
 var on=b.getAttribute('aria-pressed')!=='true';
 document.querySelectorAll('.legend button').forEach(function(o){o.setAttribute('aria-pressed',on&&o===b)});
 document.querySelectorAll('.map circle,.map .thumb').forEach(function(c){
  c.classList.toggle('faint',on&&!c.classList.contains(b.value))});
}});
"""


def page(title: str, body: str) -> str:
    """A whole document, self-contained."""
    dark = _variables(_DARK)
    inks = "".join(f".{name}{{--c:var(--{colour})}}" for name, colour in _INKS.items())
    style = (f":root{{color-scheme:light dark;{_variables(_LIGHT)}}}@media (prefers-color-scheme:dark) and (not print)"
             f"{{:root{{{dark}}}}}{inks}{_RULES}")
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
            f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{style}</style></head>\n'
            f"<body>\n{body}\n<script>{_SCRIPT}</script></body></html>\n")


def section(name: str, title: str, *parts: str) -> str:
    """A part of the page with its heading; `name` is what links lead to."""
    return f'<section id="{name}"><h2>{escape(title)}</h2>\n' + "\n".join(p for p in parts if p) + "\n</section>"


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def bullets(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numeric: Sequence[int] = ()) -> str:
    """A table of plain text; the first cell of a row names it, columns in `numeric` align to the right. Empty head: none."""
    def cell(i: int, text: str) -> str:
        if i == 0:
            return f'<th scope="row" class="key">{escape(text)}</th>'
        return f'<td class="num">{escape(text)}</td>' if i in numeric else f"<td>{escape(text)}</td>"

    header = "".join(f'<th{" class=num" if i in numeric else ""}>{escape(text)}</th>' for i, text in enumerate(head) if any(head))
    body = "".join("<tr>" + "".join(cell(i, text) for i, text in enumerate(row)) + "</tr>" for row in rows)
    header = f"<thead><tr>{header}</tr></thead>" if header else ""
    return f'<div class="scroll"><table>{header}<tbody>{body}</tbody></table></div>'
