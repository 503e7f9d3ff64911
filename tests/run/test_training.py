"""A training run from its start to its end: what it leaves behind, however it ends."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rft.errors import LearnError, SamplersLost
from rft.events import Event, SamplerLost, SamplerReplaced, StepFinished
from rft.run.open_folder import code_changes
from rft.run.training import Training
from rft.run_folder.recorder import Recorder, read_metrics, read_rollouts
from rft.terminal.interrupt import NOTICE_EXIT_CODE, tell_listeners_of_notice
from rft.types import GradedGroup, Task


def summary_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run" / "summary.json").read_text())
    return found


@pytest.mark.parametrize(("cancelled_in", "has_checkpoint"), [(1, False), (3, True)])
def test_a_cancelled_run_leaves_a_summary_and_says_how_to_continue(
    training: Callable[..., Training],
    parts: Any,
    printed: io.StringIO,
    tmp_path: Path,
    cancelled_in: int,
    has_checkpoint: bool,
) -> None:
    async def job() -> None:
        run = asyncio.create_task(training().train())
        parts.learning = lambda step: run.cancel() if step == cancelled_in else None
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(job())
    resume = f"rft train resume={tmp_path / 'run'}" if has_checkpoint else None
    summary = summary_of(tmp_path)
    assert (summary["status"], summary["steps"], summary["resume"]) == ("interrupted", cancelled_in - 1, resume)
    assert ("to continue: rft train resume=" in printed.getvalue()) == has_checkpoint
    assert parts.is_closed


def test_a_failed_run_leaves_a_summary_and_its_error_says_how_to_continue(
    training: Callable[..., Training], parts: Any, tmp_path: Path
) -> None:
    def fail(step: int) -> None:
        if step == 3:
            raise LearnError("no more")

    parts.learning = fail
    with pytest.raises(LearnError, match="no more") as caught:
        asyncio.run(training().train())
    resume = f"rft train resume={tmp_path / 'run'}"
    assert caught.value.__notes__ == [f"to continue from step 2: {resume}"]
    summary = summary_of(tmp_path)
    assert (summary["status"], summary["error"], summary["resume"]) == ("failed", "no more", resume)
    assert parts.is_closed


def test_the_error_in_a_summary_is_without_secrets(
    training: Callable[..., Training], parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(step: int) -> None:
        raise LearnError("the key hunter2-hunter2 is refused")

    monkeypatch.setattr("rft.run.training.secrets_in", lambda _: ("hunter2-hunter2",))
    parts.learning = fail
    with pytest.raises(LearnError):
        asyncio.run(training().train())
    assert summary_of(tmp_path)["error"] == "the key <redacted> is refused"


def test_a_run_that_has_lost_its_samplers_saves_the_last_complete_step(
    training: Callable[..., Training], parts: Any, tmp_path: Path
) -> None:
    grade = parts.grade

    async def lose(*arguments: Any, **options: Any) -> Any:
        if parts.step == 1:
            raise SamplersLost("sampler 0 is gone")
        return await grade(*arguments, **options)

    parts.grade = lose
    with pytest.raises(SamplersLost) as caught:
        asyncio.run(training("loop.checkpoint_every_steps=100").train())
    assert caught.value.__notes__ == [f"to continue from step 1: rft train resume={tmp_path / 'run'}"]
    assert [line["step"] for line in read_metrics(tmp_path / "run")] == [0, 1]


def test_recoveries_are_counted(training: Callable[..., Training], parts: Any, printed: Any, tmp_path: Path) -> None:
    def lose(step: int) -> None:
        if step < 3:
            parts.emit(SamplerLost(sampler="sampler 1", reason="sampler 1 is gone: killed", num_completions=2 * step))
            parts.emit(SamplerReplaced(sampler="sampler 1", seconds=7.0))

    parts.learning = lose
    assert asyncio.run(training().train()) == 0
    recoveries = [
        {name: value for name, value in line["metrics"].items() if name.startswith("recovery/")}
        for line in read_metrics(tmp_path / "run")
    ]
    counts = [(2.0, 1.0), (4.0, 1.0)]
    names = ("recovery/redone_completions", "recovery/sampler_restarts")
    assert recoveries == [{}, *(dict(zip(names, count, strict=True)) for count in counts), {}]
    assert summary_of(tmp_path)["recovery"] == {"redone_completions": 6, "sampler_restarts": 2}
    assert "warning: sampler 1 is gone: killed; 2 completions will be sampled again" in printed.getvalue()
    assert "sampler 1 was replaced and proved its policy after 7 s" in printed.getvalue()
    kinds = [kind for kind, _ in events_of(tmp_path)]
    assert (kinds.count("sampler_lost"), kinds.count("sampler_replaced")) == (2, 2)


def test_a_resumed_run_warns_of_code_that_changed(training: Callable[..., Training], tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def centred(rewards_n, group_size):\n    return rewards_n.nan_to_num() - 0.5\n")
    words = ("learner=grpo", f"learner.advantage={file}:centred", "learner.scale_rewards=none", "sampler=vllm")
    run = training(*words, last_step=2)
    run.prepared.graders = (SimpleNamespace(name="correct", use="mine.py:f", sha256="new", model_fingerprint=None),)
    old = hashlib.sha256(file.read_bytes()).hexdigest()
    manifest = {"graders": {"correct": {"sha256": "new"}}, "advantage": {"source": str(file), "sha256": old}}
    recorder = Recorder(tmp_path / "run")
    recorder.document("manifest.json", json.dumps(manifest))
    assert code_changes(run.run, run.prepared, recorder.folder) == []
    file.write_text(file.read_text() + "# changed\n")
    manifest["graders"]["correct"]["sha256"] = "old"
    recorder.document("manifest.json", json.dumps(manifest))
    rest = (
        "has changed since the run began; the remaining steps use the changed code, so the result differs from that of "
        "an uninterrupted run"
    )
    expected = [f"graders.correct (mine.py:f) {rest}", f"learner.advantage ({file}) {rest}"]
    assert code_changes(run.run, run.prepared, recorder.folder) == expected
    run._emit_start()
    run._heartbeat.close()
    assert [text for kind, text in events_of(tmp_path) if kind == "warned"] == expected
    del manifest["advantage"]  # rft 0.1 wrote none
    manifest["graders"] = {"correct": {"sha256": "new"}}
    recorder.document("manifest.json", json.dumps(manifest))
    assert code_changes(run.run, run.prepared, recorder.folder) == []


def events_of(folder: Path) -> list[tuple[str, Any]]:
    """Kind, and step or text, of each line of events.jsonl."""
    lines = map(json.loads, (folder / "run" / "events.jsonl").read_text().splitlines())
    return [(line["event"], line.get("step", line.get("text"))) for line in lines]


def test_the_events_of_a_whole_run(training: Callable[..., Training], printed: io.StringIO, tmp_path: Path) -> None:
    assert asyncio.run(training().train()) == 0
    assert events_of(tmp_path) == [
        ("run_started", None),
        ("phase_started", "measuring before: 1 task"),
        ("measured", 0),
        ("step_finished", 0),
        ("phase_started", "training"),
        ("step_trained", 1),
        ("step_finished", 1),
        ("step_trained", 2),
        ("phase_started", "measuring validation: 2 tasks"),
        ("measured", 2),
        ("step_finished", 2),
        ("checkpoint_saved", 2),
        ("step_trained", 3),
        ("step_finished", 3),
        ("checkpoint_saved", 3),
        ("phase_started", "measuring after: 1 task"),
        ("measured", 3),
        ("run_ended", None),
    ]
    summary = summary_of(tmp_path)
    assert (summary["status"], summary["steps"]) == ("finished", 3)
    assert "resume" not in summary
    lines = read_metrics(tmp_path / "run")
    assert [line["step"] for line in lines] == [0, 1, 2, 3]
    assert [line["metrics"].get("learner/loss") for line in lines] == [None, 0.25, 0.5, 0.75]
    # Rewards are 0, 1, 0, 1, so every mean is 1/2; the one completion of a held-out task has reward 0.
    assert [line["metrics"].get("reward/mean") for line in lines] == [None, 0.5, 0.5, 0.5]
    assert [line["metrics"].get("eval/mean") for line in lines] == [None, None, 0.0, None]
    phases = [(line["phase"], line["step"]) for line in read_rollouts(tmp_path / "run")]
    assert phases == [
        ("before", 0),
        *[("train", 1)] * 4,
        *[("train", 2)] * 4,
        *[("validation", 2)] * 2,
        *[("train", 3)] * 4,
        ("after", 3),
    ]
    assert "finished after 3 steps" in printed.getvalue()


def test_a_resumed_run_continues_its_history(training: Callable[..., Training], parts: Any, tmp_path: Path) -> None:
    async def cancelled() -> None:
        run = asyncio.create_task(training().train())
        parts.learning = lambda step: run.cancel() if step == 3 else None
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(cancelled())
    before = events_of(tmp_path)
    with (tmp_path / "run" / "events.jsonl").open("a") as file:
        file.write('{"event": "warn')  # the machine died while it wrote
    recorder = Recorder.resume(tmp_path / "run", last_step=2)
    parts.learning = lambda step: None
    assert asyncio.run(training(last_step=2, recorder=recorder).train()) == 0
    assert events_of(tmp_path)[: len(before)] == before
    assert events_of(tmp_path)[len(before) :][:3] == [
        ("run_started", None),
        ("phase_started", "training"),
        ("step_trained", 3),
    ]
    assert [line["step"] for line in read_metrics(tmp_path / "run")] == [0, 1, 2, 3]


def test_a_notice_during_a_measurement_saves_the_step_without_it(
    training: Callable[..., Training], parts: Any, tmp_path: Path
) -> None:
    async def hang_in_measurement(tasks: Sequence[Task], rollouts: Any, **options: Any) -> list[GradedGroup]:
        if parts.step and tasks[0].id == "validation 0":
            tell_listeners_of_notice("the machine goes")
            await asyncio.Event().wait()
        return list(await grade(tasks, rollouts, **options))

    grade = parts.grade
    parts.grade = hang_in_measurement
    code = asyncio.run(training("loop.checkpoint_every_steps=100").train())
    assert code == NOTICE_EXIT_CODE
    lines = read_metrics(tmp_path / "run")
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert not [name for name in lines[-1]["metrics"] if name.startswith("eval/")]
    summary = summary_of(tmp_path)
    assert (summary["status"], summary["resume"]) == ("interrupted", f"rft train resume={tmp_path / 'run'}")
    assert parts.num_saves == 1


def test_a_run_that_should_be_pruned_saves_and_measures_no_more(
    training: Callable[..., Training], parts: Any, tmp_path: Path
) -> None:
    assert asyncio.run(training(should_prune=lambda: parts.step == 1).train()) == 0
    assert summary_of(tmp_path)["status"] == "pruned"
    assert events_of(tmp_path)[-4:] == [
        ("step_trained", 1),
        ("step_finished", 1),
        ("checkpoint_saved", 1),
        ("run_ended", None),
    ]


def test_trackers_and_sinks_of_the_users_receive_a_run_of_the_fake_learner(
    training: Callable[..., Training], printed: io.StringIO, tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    steps: list[int] = []

    class Mine:
        def event(self, event: Event) -> None:
            if isinstance(event, StepFinished):
                steps.append(event.report.step)
                if event.report.step == 2:
                    raise RuntimeError("no more disk at home")

        def close(self) -> None:
            pass

    assert asyncio.run(training("logging.report_to=[tensorboard]", user_sinks={"mine.py:Mine": Mine}).train()) == 0
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("learner/loss")] == [(1, 0.25), (2, 0.5), (3, 0.75)]
    recorded = {name for line in read_metrics(tmp_path / "run") for name in line["metrics"]}
    assert {tag for tag in events.Tags()["scalars"] if not tag.startswith(("seconds/", "after/"))} == recorded
    # The sink that failed did not end the run: the warning, the summary and the events say so.
    assert steps == [0, 1, 2]
    assert (
        printed.getvalue().count("warning: sink mine.py:Mine failed and receives no more events: RuntimeError: ") == 1
    )
    failed = summary_of(tmp_path)["failed_sinks"]
    assert list(failed) == ["mine.py:Mine"]
    assert "no more disk at home" in failed["mine.py:Mine"]["error"]
    assert [kind for kind, _ in events_of(tmp_path)].count("warned") == 1


def test_a_run_ends_early_and_its_result_is_the_step_that_was_measured_best(
    training: Callable[..., Training], parts: Any, tmp_path: Path
) -> None:
    """Its measurements are all equal, so the first is the best."""
    words = ("loop.steps=9", "evaluation.every_steps=1", "evaluation.patience=2")
    assert asyncio.run(training(*words).train()) == 0
    summary = summary_of(tmp_path)
    assert (summary["status"], summary["steps"]) == ("finished", 3)
    assert summary["best"] == {"step": 1, "stopped_early": True}
    after = list(read_rollouts(tmp_path / "run", "after"))
    assert {line["policy"]["version"] for line in after} == {1}


@pytest.mark.parametrize("killed_in", [None, 4, 7])
def test_a_killed_run_stops_at_the_same_step_with_the_same_best_one(
    training: Callable[..., Training],
    parts: Any,
    tmp_path: Path,
    make_group: Callable[..., GradedGroup],
    killed_in: int | None,
) -> None:
    """Measured after every second step: 0.2, 0.6, 0.5, 0.4. The checkpoints are those of steps 3 and 6."""
    scores = {2: 0.2, 4: 0.6, 6: 0.5, 8: 0.4}
    grade = parts.grade

    async def by_version(tasks: Sequence[Task], rollouts: Any, **options: Any) -> list[GradedGroup]:
        if not tasks[0].id.startswith("validation"):
            return list(await grade(tasks, rollouts, **options))
        score = scores[parts.policy.version]
        return [make_group([score], task.id, policy=parts.policy) for task in tasks]

    parts.grade = by_version
    words = ("loop.steps=20", "loop.checkpoint_every_steps=3", "evaluation.patience=2")

    async def killed() -> None:
        run = asyncio.create_task(training(*words).train())
        parts.learning = lambda step: run.cancel() if step == killed_in else None
        with pytest.raises(asyncio.CancelledError):
            await run

    resumed: dict[str, Any] = {}
    if killed_in:
        asyncio.run(killed())
        parts.learning = lambda step: None
        last_step = 3 * ((killed_in - 1) // 3)
        resumed = {"last_step": last_step, "recorder": Recorder.resume(tmp_path / "run", last_step=last_step)}
    assert asyncio.run(training(*words, **resumed).train()) == 0
    summary = summary_of(tmp_path)
    assert (summary["steps"], summary["best"]) == (8, {"step": 4, "stopped_early": True})
    assert {line["policy"]["version"] for line in read_rollouts(tmp_path / "run", "after")} == {4}
    changes = [line["metrics"].get("eval_change/mean") for line in read_metrics(tmp_path / "run")]
    assert changes == [None, None, None, None, pytest.approx(0.4), None, pytest.approx(0.3), None, pytest.approx(0.2)]


def test_a_teacher_grades_the_batches_and_the_graders_the_held_out_tasks(
    training: Callable[..., Training], parts: Any, printed: io.StringIO, make_group: Callable[..., GradedGroup]
) -> None:
    graded: list[str] = []
    grade = parts.grade

    async def by_graders(tasks: Sequence[Task], rollouts: Any, **options: Any) -> Any:
        graded.extend(task.split for task in tasks)
        return await grade(tasks, rollouts, **options)

    async def by_teacher(tasks: Sequence[Task], rollouts: Any, *, rollouts_per_task: int) -> list[GradedGroup]:
        return [make_group([-0.5] * rollouts_per_task, task.id, policy=parts.policy) for task in tasks]

    parts.grade = by_graders
    parts.training_panel = SimpleNamespace(grade=by_teacher)
    assert asyncio.run(training("loop.steps=12", "loop.checkpoint_every_steps=100").train()) == 0
    assert len(graded) == 1 + 6 * 2 + 1, "before, six times the validation tasks, and after"
    assert "the rewards of each group were equal" not in printed.getvalue()
