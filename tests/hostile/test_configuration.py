"""Overrides, presets, run folders, checkpoints and adapters of strangers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("hypothesis")
import safetensors.numpy
from hypothesis import example, given
from hypothesis import strategies as st

from rft.api.run import Run
from rft.config.adapter_settings import settings_of_run
from rft.config.command_line import read_line
from rft.config.commands import load_evaluation, load_training
from rft.config.presets import conf_dir
from rft.models.adapter_folder import base_model_of, load_adapter, max_rank
from rft.run_folder.completions import read_completions
from rft.run_folder.find_checkpoint import described, last_checkpoint, list_checkpoints
from rft.run_folder.recorder import refuse_output

from .harness import DEEP, DEEP_YAML, LONG, PAYLOADS, as_json, cases, damaged, harmless, mutated, texts, values

QUICK = "experiment=quickstart"
KEYS = [
    "seed",
    "name",
    "loop.steps",
    "loop",
    "learner.adapter",
    "learner.trl",
    "graders.g",
    "graders.g.use",
    "data.columns",
    "sampler",
    "learner",
    "model.chat_template_kwargs",
    "storage",
    "output_dir",
    "cluster.address",
]
SIGNS = ["", "+", "++", "~", "-", "--"]
PRESET = yaml.safe_load((conf_dir() / "experiment" / "quickstart.yaml").read_text())
PRESET_KEYS = [
    "defaults",
    "loop",
    "steps",
    "graders",
    "use",
    "sampler",
    "learner",
    "override /sampler",
    "data",
    "hydra",
    "_target_",
]
BROKEN = [
    "loop: [",
    "a:\tb",
    "seed: 1\nseed: 2",
    "\x00",
    "- a\n- b",
    "&a [*a]",
    "*b",
    "!!python/object/apply:os.system ['touch code_ran']",
    "!!python/name:os.system",
    "hydra: {run: {dir: /}}",
    "_target_: os.system",
    "seed: ${oc.env:NO_SUCH}",
    "seed: ${seed}",
    "defaults: [nope]",
    "defaults: {a: b}",
    "defaults: [{override /sampler: nope}]",
    "? {a: b}\n: c",
    "seed: 0o17",
    "seed: 1_000",
    "[" * 900,
]

ADAPTER = {
    "peft_type": "LORA",
    "base_model_name_or_path": "some/model",
    "r": 2,
    "lora_alpha": 4,
    "rank_pattern": {"q_proj": 4},
    "alpha_pattern": {},
    "target_modules": ["q_proj"],
}
TENSORS = safetensors.numpy.save(
    {
        "base_model.model.layers.0.q_proj.lora_A.weight": np.ones((2, 3), dtype=np.float32),
        "base_model.model.layers.0.q_proj.lora_B.weight": np.ones((4, 2), dtype=np.float32),
    }
)


@st.composite
def overrides(draw: st.DrawFn) -> str:
    sign, key = draw(st.sampled_from(SIGNS)), draw(st.sampled_from(KEYS) | texts())
    value = draw(
        st.sampled_from(["0", "null", "[1", "{a: b", "a,b", "'x", "range(1,9)", "${seed}"]) | values().map(str)
    )
    return f"{sign}{key}={value}" if draw(st.integers(0, 9)) else f"{sign}{key}"


@pytest.mark.filterwarnings("ignore:provider=hydra.searchpath")
@cases(10, in_fuzz=500)
@example(words=[LONG])
@example(words=[f"{LONG}=1"])
@example(words=[f"data={LONG}"])
@example(words=[f"hydra.searchpath=[file:///{LONG}]", "sampler=fake"])
@example(words=[f"resume={LONG}"])
@example(words=[f"output_dir={LONG}", "or_resume=true"])
@example(words=["experiment=**"])
@given(words=st.lists(overrides(), max_size=3))
def test_overrides(words: list[str]) -> None:
    with harmless():
        load_training([QUICK, *words])


@cases(6, in_fuzz=400)
@given(
    text=st.sampled_from(BROKEN)
    | texts()
    | mutated([PRESET], PRESET_KEYS, max_changes=2).map(lambda one: yaml.dump(one)),
    head=st.sampled_from(["# @package _global_\n", ""]),
)
def test_presets(text: str, head: str) -> None:
    Path("experiment").mkdir(exist_ok=True)
    Path("experiment", "mine.yaml").write_text(head + text, encoding="utf-8", errors="surrogatepass")
    with harmless():
        load_training([f"hydra.searchpath=[file://{Path.cwd()}]", "experiment=mine"])


@cache
def run_configuration() -> dict[str, Any]:
    """Configuration of a run without a grader file: one that a run folder names is code, and rft runs it."""
    return load_training([QUICK], "run").model_dump() | {"graders": {"g": {"use": "exact"}}}


@st.composite
def saved_configurations(draw: st.DrawFn) -> bytes:
    changed = draw(mutated([run_configuration()], ["loop", "seed", "graders", "storage", "output_dir"]))
    return draw(damaged([yaml.dump(changed).encode("utf-8", "replace")], DEEP_YAML))


@cases(10, in_fuzz=400)
@example(content=DEEP_YAML[0])
@given(content=saved_configurations())
def test_run_folders(content: bytes) -> None:
    Path("run").mkdir(exist_ok=True)
    Path("run", "config.yaml").write_bytes(content)
    with harmless():
        load_training(["resume=run"])
    with harmless():
        settings_of_run(Path("run", "adapter"))


@cases(10, in_fuzz=900)
@example(config=DEEP[1], tensors=TENSORS)
@given(
    config=mutated([ADAPTER], list(ADAPTER)).map(lambda one: json.dumps(one).encode())
    | damaged([json.dumps(ADAPTER).encode()]),
    tensors=damaged([TENSORS]),
)
def test_adapters(config: bytes, tensors: bytes) -> None:
    Path("adapter_config.json").write_bytes(config)
    Path("adapter_model.safetensors").write_bytes(tensors)
    with harmless():
        adapter = load_adapter(Path())
        assert max_rank(adapter) >= 1
        assert base_model_of(adapter, Path())


@pytest.mark.parametrize("name", [name for name in PAYLOADS if "/" in name or ".." in name])
def test_names_that_would_leave_their_folder(name: str) -> None:
    with harmless():
        run = load_training([QUICK, f"name='{name}'"])
        assert Path(run.output_dir).resolve().is_relative_to(Path.cwd())


READS: dict[str, Callable[[Path], object]] = {
    "adapter": load_adapter,
    "settings of an adapter's run": settings_of_run,
    "run": Run,
    "folder of a new run": refuse_output,
    "completions": lambda path: read_completions(str(path), columns={}, phase=None),
    "folder of presets": lambda path: read_line(["--config-dir", str(path)], "rft train"),
}
"""What reads a path that the user gives, besides overrides."""


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("path", [Path(LONG), Path("\x00")], ids=["long", "null"])
def test_paths_that_no_file_has(read: Callable[[Path], object], path: Path) -> None:
    with harmless():
        read(path)


@cases(8, in_fuzz=400)
@given(adapter=st.sampled_from(["nope", "..", "/etc", "\x00", "run"]), test=texts())
def test_evaluations(adapter: str, test: str) -> None:
    with harmless():
        load_evaluation([f"adapter='{adapter}'", f"data.test='{test}'", "graders.g.use=exact"])


SEAL = {"bytes": 3, "sha256": hashlib.sha256(b"abc").hexdigest()}
MARK = {"step": 2, "files": {"a.bin": SEAL}}
OTHER_CONTENT = {"step": 2, "files": {"a.bin": SEAL | {"sha256": "0" * 64}}}


@pytest.mark.filterwarnings("ignore:.*the line is damaged")
@cases(10, in_fuzz=900)
@example(mark=DEEP[1], lines=b"")
@example(mark=as_json(MARK), lines=DEEP[1] + b"\n")
@example(mark=as_json({"step": 2, "files": {"a.bin": SEAL | {"bytes": None}}}), lines=b"")
@given(
    mark=mutated([MARK, OTHER_CONTENT], ["step", "files", "bytes"]).map(as_json) | damaged([b'{"step": 2}']),
    lines=damaged([b'{"step": 1, "metrics": {}}\n{"step": 2, "metrics": {"a": 1.0}}\n']),
)
def test_checkpoints_and_metrics(mark: bytes, lines: bytes) -> None:
    checkpoint = Path("run", "checkpoints", "checkpoint-2")
    checkpoint.mkdir(parents=True, exist_ok=True)
    Path("run", "config.yaml").write_text("seed: 0\n")
    Path("run", "metrics.jsonl").write_bytes(lines)
    (checkpoint / "a.bin").write_bytes(b"abc")
    (checkpoint / "complete.json").write_bytes(mark)
    with harmless():
        for one in list_checkpoints(Path("run")):
            assert described(one)
        last_checkpoint(Path("run"))
