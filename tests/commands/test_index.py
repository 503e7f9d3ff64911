"""`rft index`: values of the command line are texts where they are no YAML."""

from pathlib import Path
from typing import Any


def test_a_template_as_query(tmp_path: Path, rft: Any) -> None:
    (tmp_path / "docs.jsonl").write_text('{"id": "a", "text": "water the orchid"}\n{"id": "b", "text": "repot it"}\n')
    (tmp_path / "rows.jsonl").write_text('{"prompt": "?", "question": "orchid water", "relevant": ["a"]}\n')
    index = tmp_path / "index"
    assert rft("index", "build", f"documents={tmp_path}/docs.jsonl", f"out={index}")[0] == 0
    words = [f"data={tmp_path}/rows.jsonl", "query={{ question }}", "relevant=relevant"]
    code, out, _ = rft("index", "check", f"index={index}", *words)
    assert code == 0
    assert "1.000" in out
