"""A run on a quantized base model: vLLM serves what the learner computes with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rft.api.merge import run_merge
from rft.config.commands import load_merge
from rft.models.base_model import EMBEDDED_MODELS, fingerprint
from rft.run_folder.recorder import read_metrics

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("visible_bitsandbytes")]


def test_engine_and_learner_agree_on_a_quantized_base_model(
    folder: Path, three_steps: tuple[str, ...], rft_either_way: Callable[..., Any]
) -> None:
    words = (*three_steps, "loop.steps=1", "data.validation=null", "evaluation.every_steps=null", "learner.base=nf4")
    done = rft_either_way("train", *words, "output_dir=run", cwd=folder)
    assert (done.code, done.orphans) == (0, [])
    _, step = read_metrics(done.folder)
    assert step["metrics"]["sync/proved"] == 1.0
    assert step["metrics"]["sync/canary_gap_max"] < 1e-5
    base = json.loads((done.folder / "manifest.json").read_text())["base_model"]
    assert base["fingerprint"] == fingerprint(done.folder / "quantized_base")
    assert base["quantized"]["source_fingerprint"] == fingerprint(EMBEDDED_MODELS["embedded:tiny"])
    config = json.loads((done.folder / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str((done.folder / "quantized_base").resolve())
    compared = json.loads((done.folder / "summary.json").read_text())["original_base"]
    assert 0.01 < compared["mean_gap"] < compared["largest_gap"]
    assert "On the original base model embedded:tiny" in " ".join(done.output.split())

    merged = folder / "merged"
    assert run_merge(load_merge([f"adapter={done.folder}", f"output_dir={merged}"]), console=Console()) == 0
    assert f"fingerprint\n`{base['fingerprint']}`" in (merged / "README.md").read_text()
