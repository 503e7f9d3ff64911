import json
from pathlib import Path

import pytest
from harness.commands import Signal, run_rft, signal


def test_the_signal_counts_completions_and_groups_of_one_phase(tmp_path: Path) -> None:
    rewards = {"a": [0.0, 0.0], "b": [0.0, 1.0], "c": [1.0, 1.0]}
    lines = [
        {"step": 1, "phase": phase, "task_id": task, "reward": reward}
        for phase, tasks in {"before": {"a": [1.0, 1.0]}, "train": rewards}.items()
        for task, group in tasks.items()
        for reward in group
    ]
    (tmp_path / "rollouts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert signal(tmp_path, "train") == Signal(num_completions=6, pass_rate=0.5, informative_share=1 / 3)


def test_a_failed_command_ends_the_benchmark_with_its_output() -> None:
    with pytest.raises(SystemExit, match="ended with 2\\nrft: unknown command 'nothing'"):
        run_rft("nothing")
