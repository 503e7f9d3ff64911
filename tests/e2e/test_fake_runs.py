"""Whole runs of fakes that refill their steps, are stopped, or fail.

A test waits for lines of output; a deadline only ends what hangs.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from rft.errors import RayLost
from rft.run_folder.find_checkpoint import last_checkpoint
from rft.run_folder.recorder import read_metrics, read_rollouts

pytestmark = pytest.mark.e2e

TASKS = Path(__file__).parents[2] / "rft" / "embedded" / "tasks" / "chain_sum"
SMALL = (
    "experiment=quickstart",
    "loop.prompts_per_step=4",
    "loop.completions_per_prompt=4",
    "learner.completions_per_micro_batch=16",
    "data.test=test.jsonl",
    "data.validation=validation.jsonl",
    "evaluation.completions_per_task=2",
)
FAKE = ("sampler=fake", "learner=fake")

Rft = Callable[..., Any]


def test_ctrl_c_and_resume(folder: Path, rft: Rft, rft_in_process: Rft) -> None:
    exact = "graders.correct.use=exact"
    never = ("loop.checkpoint_every_steps=1000000", "evaluation.every_steps=null")
    fake = (*SMALL, *FAKE, exact, *never, "output_dir=run")
    pressed = []

    def press_once(line: str, press_ctrl_c: Callable[[], None]) -> None:
        if line.startswith("step 1/") and not pressed:
            pressed.append(line)
            press_ctrl_c()

    stopped = rft("train", *fake, "loop.steps=1000000", cwd=folder, on_line=press_once)
    assert (stopped.code, stopped.orphans) == (130, [])
    assert "after the current step is finished and saved" in stopped.output
    assert stopped.summary["status"] == "interrupted"
    done = stopped.summary["steps"]
    assert last_checkpoint(stopped.folder) == (stopped.folder / "checkpoints" / f"checkpoint-{done}", done)
    assert [line["step"] for line in read_metrics(stopped.folder)] == list(range(done + 1))
    assert list(read_rollouts(stopped.folder, "after")) == []

    resumed = rft_in_process("train", "resume=run", f"loop.steps={done + 2}", cwd=folder)
    assert resumed.code == 0
    assert (resumed.summary["status"], resumed.summary["steps"]) == ("finished", done + 2)
    assert [line["step"] for line in read_metrics(resumed.folder)] == list(range(done + 3))
    assert len(list(read_rollouts(resumed.folder, "train"))) == (done + 2) * 16
    assert len(list(read_rollouts(resumed.folder, "before"))) == len(list(read_rollouts(resumed.folder, "after"))) == 24


def test_sampling_ahead_refilling_and_pass_rates(folder: Path, rft_in_process: Rft) -> None:
    (folder / "half.py").write_text("def half(completion):\n    return float(completion in ('1', '2'))\n")
    lines = (TASKS / "train.jsonl").read_text().splitlines(keepends=True)[:40]
    (folder / "train.jsonl").write_text("".join(lines))
    run = rft_in_process(
        "train",
        *(*SMALL, *FAKE, "data.train=train.jsonl", "loop.steps=5", "loop.staleness=2", "loop.refill_rounds=9"),
        *(
            "loop.pass_rate={completions_per_task: 4, min: 0.5, max: 1}",
            "~graders.correct",
            "graders.half.use=half.py:half",
        ),
        *("feasibility=warn", "feasibility.max_tasks=6", "output_dir=run"),
        cwd=folder,
    )
    assert run.code == 0
    judged = json.loads((run.folder / "feasibility.json").read_text())
    assert run.summary["feasibility"]["text"] == judged["text"]
    assert "feasibility was judged: " + judged["text"] in run.output
    assert judged["pass_rates"].keys() == {line["task_id"] for line in read_rollouts(run.folder, "feasibility")}
    assert judged["sampled"]["completions"] == 6 * 16
    metrics = [line["metrics"] for line in read_metrics(run.folder)]
    rates: dict[str, list[float]] = {}
    for line in read_rollouts(run.folder, "pass rate"):
        rates.setdefault(line["task_id"], []).append(line["reward"])
    assert {len(rewards) for rewards in rates.values()} == {4}
    kept = {task_id for task_id, rewards in rates.items() if sum(rewards) >= 2}
    assert metrics[0]["tasks/kept"] == len(kept) < 40
    assert metrics[0]["tasks/too_hard"] == 40 - len(kept)
    trained: dict[tuple[int, str], list[float]] = {}
    versions: dict[int, list[int]] = {}
    for line in read_rollouts(run.folder, "train"):
        assert line["task_id"] in kept
        versions.setdefault(line["step"], []).append(line["policy"]["version"])
        trained.setdefault((line["step"], line["task_id"]), []).append(line["reward"])
    # Two versions behind the learner, but for what was sampled later to fill up.
    assert [min(versions[step]) for step in range(1, 6)] == [0, 0, 0, 1, 2]
    assert all(max(versions[step]) < step for step in range(1, 6))
    assert all(line["policy/staleness_max"] <= 2 for line in metrics[1:])
    assert [line["groups/trained_informative_share"] for line in metrics[1:]] == [1.0] * 5
    for step in range(1, 6):
        groups = [rewards for (of_step, _), rewards in trained.items() if of_step == step]
        dull = sum(len(set(rewards)) == 1 for rewards in groups)
        assert metrics[step]["groups/put_aside"] == dull == len(groups) - 4


@pytest.mark.full
def test_ctrl_c_twice_stops_at_once(folder: Path, rft: Rft) -> None:
    presses = []

    def press(line: str, press_ctrl_c: Callable[[], None]) -> None:
        if (line.startswith("step 1/") and not presses) or ("stopping" in line and len(presses) == 1):
            presses.append(line)
            press_ctrl_c()

    # 12 held-out tasks and 4 of the first step are graded; those of the second take for ever.
    (folder / "slow.py").write_text(
        "import time\n\nseen = set()\n\n\ndef slow(completion, task):\n    seen.add(task.id)\n"
        "    if len(seen) > 16:\n        time.sleep(10000)\n    return 0.5\n"
    )
    words = (*SMALL, *FAKE, "loop.steps=50", "~graders.correct", "graders.slow.use=slow.py:slow", "output_dir=run")
    stopped = rft("train", *words, "graders.slow.timeout_s=9999", cwd=folder, on_line=press)
    assert (stopped.code, stopped.orphans) == (130, [])
    assert stopped.summary["status"] == "interrupted"


def test_a_grader_that_always_raises(folder: Path, rft_in_process: Rft) -> None:
    (folder / "broken.py").write_text("def broken(completion):\n    raise KeyError('no such column')\n")
    failed = rft_in_process(
        "train", *SMALL, *FAKE, "~graders.correct", "graders.broken.use=broken.py:broken", "output_dir=run", cwd=folder
    )
    assert failed.code == 1
    assert "Traceback" not in failed.output
    message = failed.output[failed.output.index("rft: ") :]
    assert "broken" in message
    assert "no such column" in message
    assert failed.summary["status"] == "failed"


@pytest.mark.full  # tests/chaos/test_real_ray.py kills a raylet
@pytest.mark.parametrize(
    ("name", "number", "problem"),
    [
        ("raylet", signal.SIGKILL, "has ended"),
        ("gcs_server", signal.SIGKILL, "has ended"),
        ("raylet", signal.SIGSTOP, "has been silent for 20 s"),
        ("gcs_server", signal.SIGSTOP, "has been silent for 20 s"),
    ],
)
def test_a_ray_that_is_lost(
    folder: Path, rft: Rft, rft_here: Rft, name: str, number: signal.Signals, problem: str
) -> None:
    lost: list[int] = []

    def lose(line: str, _: Callable[[], None]) -> None:
        if line.startswith("step 2/") and not lost:
            driver = json.loads((folder / "run" / "heartbeat.json").read_text())["pid"]
            [process] = [child for child in psutil.Process(driver).children() if child.name() == name]
            lost.append(process.pid)
            process.send_signal(number)

    # A step takes a second, nearly all of it in the sampler.
    fake = (*SMALL, *FAKE, "graders.correct.use=exact", "sampler.completions_per_s=16")
    saving = ("loop.checkpoint_every_steps=1", "evaluation.every_steps=null")
    run = rft("train", *fake, *saving, "loop.steps=1000000", "output_dir=run", cwd=folder, on_line=lose)
    assert (run.code, run.orphans) == (RayLost.exit_code, [])
    assert "Traceback" not in run.output
    message = run.output[run.output.index("rft: ") :]
    assert f"(process {lost[0]}) {problem} while the run was under way" in message
    assert (run.summary["status"], run.summary["resume"]) == ("failed", "rft train resume=run")
    done = run.summary["steps"]
    assert f"to continue from step {done}: rft train resume=run" in message
    status = rft_here("status", "run", "--json", cwd=folder)
    assert (status.code, json.loads(status.output[status.output.index("{\n") :])["state"]) == (1, "failed")

    resumed = rft_here("train", "resume=run", f"loop.steps={done + 2}", cwd=folder)
    assert resumed.code == 0
    assert [line["step"] for line in read_metrics(resumed.folder)] == list(range(done + 3))
