"""How texts are to be read, as `layout` says it: file, line, paragraph, text=COLUMN, pack, several separated by commas."""

from __future__ import annotations

from dataclasses import dataclass

from ..contracts import OptionError, nearest

PARTS = ("file", "line", "paragraph")


@dataclass(frozen=True)
class TextLayout:
    """part: what an item of a file is, or None for what its blank lines say. columns: of a table, joined by a line break where there
    are several. pack: an item goes on with the texts behind it."""

    part: str | None = None
    columns: tuple[str, ...] = ()
    pack: bool = False


def is_text_layout(layout: str | None) -> bool:
    """Whether a layout speaks of texts: 'line', 'text=body', 'text=title+body,pack'."""
    return layout is not None and any(w in (*PARTS, "pack") or w.startswith("text=") for w in _words(layout))


def text_layout(layout: str | None) -> TextLayout:
    """Raises OptionError for a word that is not known, naming the nearest."""
    part, columns, pack = None, (), False
    for word in _words(layout or ""):
        if word in PARTS:
            part = word
        elif word == "pack":
            pack = True
        elif word.startswith("text=") and len(word) > 5:
            columns = tuple(c.strip() for c in word[5:].split("+"))
        else:
            raise nearest(word, [*PARTS, "pack", "text=COLUMN"], what="layout of texts called", error=OptionError)
    return TextLayout(part, columns, pack)


def _words(layout: str) -> list[str]:
    return [word.strip() for word in layout.split(",") if word.strip()]
