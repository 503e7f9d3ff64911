"""A run that trains the adapter of another run further."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rft.models.base_model import EMBEDDED_MODELS
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
