"""docs/configuration.md lists the keys that there are."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "make_configuration_docs.py"))


def test_the_reference_is_up_to_date() -> None:
    page = SCRIPT["FILE"].read_text(encoding="utf-8")
    assert SCRIPT["renewed"](page) == page, "run: python scripts/make_configuration_docs.py"


def test_the_text_around_it_stays() -> None:
    begin, end = SCRIPT["BEGIN"], SCRIPT["END"]
    renewed = SCRIPT["renewed"](f"before\n{begin}of yesterday\n{end}after\n")
    assert renewed.startswith(f"before\n{begin}\n### rft train\n") and renewed.endswith(f"{end}after\n")
    assert "of yesterday" not in renewed
    assert "| `loop.steps` | `int >= 1` | `100` | Optimizer steps. |\n" in renewed
    assert r"| `audit` | `refuse \| warn \| off` | `refuse` |" in renewed
    with pytest.raises(ValueError, match="must hold the lines"):
        SCRIPT["renewed"]("a page without the marks")
