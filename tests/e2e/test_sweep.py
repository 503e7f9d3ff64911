"""Two trials of a sweep that share samplers, against each of them alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rft.run_folder.recorder import read_metrics, read_rollouts

pytestmark = pytest.mark.e2e


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
