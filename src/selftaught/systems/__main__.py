"""`python -m selftaught.systems` writes docs/SYSTEMS.md; with ids it first proves those and keeps their results to commit."""

import sys

from .catalogue import DOCUMENT, prove, to_markdown, write_result

for id in sys.argv[1:]:
    print(f"wrote {write_result(prove(id, say=print))}")
DOCUMENT.write_text(to_markdown(), encoding="utf-8")
print(f"wrote {DOCUMENT}")
