"""What is said of a run that has finished already."""

import json
from pathlib import Path

import pytest

from rft.config.commands import load_training
from rft.run_folder.results import nothing_left_to_do


@pytest.mark.parametrize(
    ("status", "steps", "is_over"),
    [("finished", 3, True), ("finished", 4, False), ("interrupted", 3, False), ("failed", 3, False)],
)
def test_a_finished_run_says_so(tmp_path: Path, status: str, steps: int, is_over: bool) -> None:
    run = load_training(["experiment=quickstart", f"loop.steps={steps}", f"output_dir={tmp_path}"])
    assert nothing_left_to_do(run, 3) == ""  # no summary: it was killed
    (tmp_path / "summary.json").write_text(json.dumps({"status": status}))
    said = f"{tmp_path}: finished after 3 steps; to continue, set loop.steps to more than 3"
    assert nothing_left_to_do(run, 3) == (said if is_over else "")
