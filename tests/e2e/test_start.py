"""What builds on a trained run: runs that train its adapter further, a measurement, and the trials of a sweep."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rft.models.base_model import EMBEDDED_MODELS
from rft.run_folder.recorded_tokens import tokens_of
from rft.run_folder.recorder import read_metrics, read_rollouts

pytestmark = pytest.mark.e2e

GO_ON = (
    "loop.steps=1",
    "loop.prompts_per_step=2",
    "learner.completions_per_micro_batch=8",
    "learner.beta=0.1",
    "data.validation=null",
    "evaluation.every_steps=null",
)


def test_a_run_goes_on_from_the_adapter_of_another(
    trained_either_way: Any, three_steps: tuple[str, ...], rft_either_way: Callable[..., Any]
) -> None:
    trained = trained_either_way
    words = (*three_steps, *GO_ON, f"start={trained.folder}", "output_dir=on")
    done = rft_either_way("train", *words, cwd=trained.folder.parent, output_dir="on")
    assert (done.code, done.orphans) == (0, [])
    end = read_metrics(trained.folder)[-1]["policy"]["fingerprint"]
    before, step = read_metrics(done.folder)
    assert before["policy"] == {"version": 0, "fingerprint": end} != step["policy"]
    assert step["metrics"]["sync/proved"] == 1.0
    assert step["metrics"]["learner/sampling/sampling_logp_difference/max"] < 1e-3
    assert step["metrics"]["learner/kl"] == pytest.approx(0.0, abs=1e-6)  # the reference is the start, not the base
    recorded = [each for line in read_rollouts(done.folder, "train") if (each := tokens_of(line)) is not None]
    assert recorded
    for each in recorded:  # the policy of the first step is the start; two bytes hold a number
        assert each.start_logprobs == pytest.approx(each.logprobs, abs=0.02)
    # Version 0 is the policy that the first run was measured with last, so it answers the same.
    answers = [
        {(line["task_id"], line["index"]): line["completion"] for line in read_rollouts(folder, phase)}
        for folder, phase in ((trained.folder, "after"), (done.folder, "before"))
    ]
    assert answers[0] == answers[1] != {}
    start = json.loads((done.folder / "manifest.json").read_text())["start"]
    assert (start["fingerprint"], start["step"], start["method"]) == (end, 3, "grpo")
    assert f"The training continued the adapter `{trained.folder}`" in (done.folder / "adapter/README.md").read_text()


@pytest.mark.parametrize("mode", ["stack", pytest.param("merge", marks=pytest.mark.full)])
def test_a_run_trains_a_new_adapter_on_top_of_another(
    trained_either_way: Any, three_steps: tuple[str, ...], rft_either_way: Callable[..., Any], mode: str
) -> None:
    trained = trained_either_way
    words = (*three_steps, *GO_ON, f"start={trained.folder}", f"start_mode={mode}", f"output_dir={mode}")
    done = rft_either_way("train", *words, "learner.adapter.rank=4", cwd=trained.folder.parent, output_dir=mode)
    assert (done.code, done.orphans) == (0, [])
    _, step = read_metrics(done.folder)
    assert step["metrics"]["sync/proved"] == 1.0
    assert step["metrics"]["learner/kl"] == pytest.approx(0.0, abs=1e-6)
    answers = [
        {(line["task_id"], line["index"]): line["completion"] for line in read_rollouts(folder, phase)}
        for folder, phase in ((trained.folder, "after"), (done.folder, "before"))
    ]
    same = sum(answers[0][key] == answers[1][key] for key in answers[0])
    assert same >= 0.9 * len(answers[0]) > 0  # merged weights are rounded differently
    config = json.loads((done.folder / "adapter" / "adapter_config.json").read_text())
    below = json.loads((trained.folder / "adapter" / "adapter_config.json").read_text())["r"]
    assert config["r"] == {"stack": 4 + below, "merge": 4}[mode]
    base_model = done.folder / "start_model" if mode == "merge" else EMBEDDED_MODELS["embedded:tiny"]
    assert Path(config["base_model_name_or_path"]) == base_model.resolve()


def test_evaluate_finds_the_same_as_the_run(trained_either_way: Any, rft_either_way: Callable[..., Any]) -> None:
    trained = trained_either_way
    measured = rft_either_way(
        "evaluate",
        *(f"adapter={trained.folder}", "graders.correct.use=reasoning_gym", "data.test=test.jsonl"),
        *("evaluation.completions_per_task=2", "output_dir=evaluated"),
        cwd=trained.folder.parent,
        output_dir="evaluated",
    )
    assert "sampler.max_completion_tokens=48" in measured.output  # taken from the run
    assert (measured.code, measured.orphans) == (0, [])
    in_run, again = (
        {(line["task_id"], line["index"]): line["completion"] for line in read_rollouts(folder, phase)}
        for folder, phase in ((trained.folder, "after"), (measured.folder, "test"))
    )
    assert in_run.keys() == again.keys() != set()
    # The same seeds. In batches of other shapes the rounding is another: a sampled token in 10,000 may differ.
    num_different = sum(again[place] != completion for place, completion in in_run.items())
    assert num_different <= 1
    assert abs(measured.summary["mean"] - trained.summary["eval"]["after"]["mean"]) <= num_different / len(in_run)


def test_two_trials_share_a_fleet_and_do_what_each_would_do_alone(
    folder: Path,
    trained_either_way: Any,
    three_steps: tuple[str, ...],
    rft_either_way: Callable[..., Any],
) -> None:
    trained = trained_either_way
    done = rft_either_way("train", "-m", *three_steps, "learner.adapter.rank=4,16", "hydra.sweep.dir=sweep", cwd=folder)
    assert (done.code, done.orphans) == (0, [])
    assert "2 trials, 2 at a time" in done.output
    sweep: dict[str, Any] = json.loads((folder / "sweep" / "sweep.json").read_text())
    assert [trial["status"] for trial in sweep["trials"]] == ["finished", "finished"]
    runs = [folder / "sweep" / number for number in ("0", "1")]
    ranks = [json.loads((run / "adapter" / "adapter_config.json").read_text())["r"] for run in runs]
    assert ranks == [4, 16]

    # Each sync was proved for the trial that it was of, and what it sampled then was its own.
    for run in runs:
        steps = read_metrics(run)[1:]
        assert [line["metrics"]["sync/proved"] for line in steps] == [1.0, 1.0, 1.0]
        served = {line["policy"]["version"]: line["policy"]["fingerprint"] for line in read_metrics(run)}
        for line in read_rollouts(run):
            assert served[line["policy"]["version"]] == line["policy"]["fingerprint"]
    fingerprints = [{line["policy"]["fingerprint"] for line in read_metrics(run)[1:]} for run in runs]
    assert not fingerprints[0] & fingerprints[1]

    # Alone it is given the same tasks, says the same before it is trained, and ends within noise.
    for phase in ("train", "before", "validation", "after"):
        assert asked(runs[1], phase) == asked(trained.folder, phase) != []
    shared, alone = said(runs[1], "before"), said(trained.folder, "before")
    assert shared.keys() == alone.keys()
    # In batches of other shapes the rounding is another: a sampled token in 10,000 may differ.
    assert sum(text != alone[place] for place, text in shared.items()) <= 1
    interval = json.loads((trained.folder / "summary.json").read_text())["eval"]["after"]["ci95"]
    low, high = sweep["trials"][1]["ci95"]
    assert low <= interval[1] and interval[0] <= high


def asked(run: Path, phase: str) -> list[tuple[int, str, int]]:
    lines = read_rollouts(run, phase)  # type: ignore[arg-type]
    return sorted((line["policy"]["version"], line["task_id"], line["index"]) for line in lines)


def said(run: Path, phase: str) -> dict[tuple[str, int], str]:
    return {(line["task_id"], line["index"]): line["completion"] for line in read_rollouts(run, phase)}  # type: ignore[arg-type]
