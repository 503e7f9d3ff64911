"""The tables of docs/gpu.md are those of the forecast."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_tables_are_generated() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "make_memory_table.py"))
    page = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    assert script["renewed"](page) == page, "run python scripts/make_memory_table.py"
