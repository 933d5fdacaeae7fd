"""README's table of methods × modalities is generated from the registry: `python tests/test_readme_table.py` writes it anew."""

import re
from pathlib import Path

from selftaught import methods  # noqa: F401  (enters the methods in the registry)
from selftaught.contracts import NotApplicable, find, names
from selftaught.modalities import find_modality
from selftaught.sources import open_source
from selftaught.sources.generated import generated
from selftaught.testing import MODALITIES

README = Path(__file__).parent.parent / "README.md"
PLACE = re.compile(r"(<!-- generated: methods -->\n).*?(<!-- end -->)", re.S)


def table() -> str:
    prepared = {}
    for modality in MODALITIES:
        source = open_source(generated(modality, 32)[0], modality=modality)
        prepared[modality] = find_modality(modality).prepare(source)
    lines = ["| method | " + " | ".join(MODALITIES) + " | what it is |", "|---|" + "---|" * (len(MODALITIES) + 1)]
    for name in (n for n in names("method") if find("method", n).__module__.startswith("selftaught.methods")):
        cells = []
        for modality, preprocessing in prepared.items():
            try:
                find_modality(modality).views(find("method", name).needs, preprocessing)
                cells.append("yes")
            except NotApplicable as reason:
                cells.append(f"no: {reason}")
        lines.append(f"| `{name}` | " + " | ".join(cells) + f" | {find('method', name).__doc__.splitlines()[0]} |")
    return "\n".join(lines) + "\n"


def test_the_table_is_up_to_date():
    assert PLACE.search(README.read_text()).group(0) == f"<!-- generated: methods -->\n{table()}<!-- end -->"


if __name__ == "__main__":
    README.write_text(PLACE.sub(lambda m: m.group(1) + table() + m.group(2), README.read_text()))
