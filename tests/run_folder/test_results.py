"""What is said of a run that has finished already."""

import json
from pathlib import Path

import pytest

from rft.config.commands import load_training
from rft.run_folder.results import nothing_left_to_do, summary_of


@pytest.mark.parametrize(
    ("status", "steps", "is_over"),
    [("finished", 3, True), ("finished", 4, False), ("interrupted", 3, False), ("failed", 3, False)],
)
def test_a_finished_run_says_so(tmp_path: Path, status: str, steps: int, is_over: bool) -> None:
    run = load_training(["experiment=quickstart", f"loop.steps={steps}", f"output_dir={tmp_path}"])
    assert nothing_left_to_do(run, 3) == ""  # no summary: it was killed
    (tmp_path / "summary.json").write_text(json.dumps({"status": status}))
    assert nothing_left_to_do(run, 3) == ""  # it was killed before it wrote its adapter
    (tmp_path / "adapter").mkdir()
    said = f"{tmp_path}: finished after 3 steps; to continue, set loop.steps to more than 3"
    assert nothing_left_to_do(run, 3) == (said if is_over else "")


@pytest.mark.parametrize("split", ["test", "validation"])
def test_the_summary_says_in_words_how_the_run_fits(tmp_path: Path, split: str) -> None:
    """Of 40 tasks, 4 are right before the run, 8 after step 10, 30 after step 20, and the training reward follows."""
    measurements = [("before", 0, 4), ("validation", 10, 8), ("train", 11, 0), ("validation", 20, 30)]
    measurements.append(("after", 20, 30))
    lines = [
        {"phase": phase, "step": step, "task_id": str(task), "reward": float(task < number), "scores": {}}
        for phase, step, number in measurements
        for task in range(40)
    ]
    lines += [{"phase": "validation", "step": 20, "task_id": "0", "reward": None, "scores": {}}]
    (tmp_path / "rollouts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    steps = [{"step": step, "metrics": {"reward/mean": step / 20}, "seconds": {}, "drops": {}} for step in range(1, 21)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in steps))
    summary = summary_of(
        tmp_path,
        graders={"correct": {"use": "exact"}},
        families={},
        evaluation={"metric": "reward", "temperature": 1.0, "completions_per_task": 1},
        status="finished",
        split=split,
        wall_s=1.0,
    )
    assert (summary["eval"]["before"]["mean"], summary["eval"]["after"]["mean"]) == (0.1, 0.75)
    fit = summary["fit"]
    assert (fit["verdict"], fit["since"]) == ("still improving", 10)
    assert fit["validation"]["mean"] == pytest.approx(0.55)
    assert fit["training"]["mean"] == pytest.approx(0.5)
