"""`python -m selftaught.systems` writes docs/SYSTEMS.md anew from the catalogue and the committed results."""

from .catalogue import DOCUMENT, to_markdown

DOCUMENT.write_text(to_markdown(), encoding="utf-8")
print(f"wrote {DOCUMENT}")
