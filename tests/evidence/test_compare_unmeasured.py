"""`rft compare`: measures adapters and base models that no run has measured, once, and refuses before it measures."""

import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from rft.api import evaluate
from rft.config import EvaluateConfig
from rft.evidence.places import place_of
from rft.run import build
from rft.types import Adapter, Policy, Rollout, Task

Rft = Callable[..., tuple[int, str, str]]
KEYS = ("sampler=fake", "data.test=tasks.jsonl", "graders.correct.use=exact")


@pytest.fixture
def opened(
    rft: Rft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_rollout: Callable[..., Rollout]
) -> list[EvaluateConfig]:
    """Samplers without Ray: the base model answers `4`, an adapter what the prompt asks for. Lists what is measured."""
    measured: list[EvaluateConfig] = []

    @asynccontextmanager
    async def open_fakes(
        config: EvaluateConfig, prepared: Any, emit: Any, adapter: Adapter | None = None
    ) -> AsyncIterator[Any]:
        measured.append(config)

        async def sample(tasks: Sequence[Task], *, completions_per_task: int, **_: Any) -> AsyncIterator[Rollout]:
            for task in tasks:
                for index in range(completions_per_task):
                    yield make_rollout(task.id, index, text=task.item["answer"] if adapter else "4")

        panel = build.panel(config, prepared, lambda _: None)
        try:
            yield SimpleNamespace(
                sampler=SimpleNamespace(sample=sample),
                panel=panel,
                fleet=SimpleNamespace(policy=Policy(version=0, fingerprint="base")),
            )
        finally:
            panel.close()

    monkeypatch.setattr("rft.run.parts.open_parts", open_fakes)
    monkeypatch.setattr(evaluate, "ray_ahead_for", lambda _: nullcontext())
    write_tasks(tmp_path / "tasks.jsonl", 3)
    return measured


def write_tasks(file: Path, first: int) -> None:
    """Write six sums, of which the first alone is 4 if `first` is 3."""
    rows = [{"prompt": f"{number}+1=", "answer": str(number + 1)} for number in range(first, first + 6)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_adapter(folder: Path, base: str) -> Path:
    """Write an adapter of one layer."""
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "base_model_name_or_path": base, "r": 2, "lora_alpha": 4}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    shapes = {f"{name}A.weight": (2, 8), f"{name}B.weight": (8, 2)}
    save_file({key: np.zeros(shape, np.float32) for key, shape in shapes.items()}, folder / "adapter_model.safetensors")
    return folder


def test_an_adapter_is_measured_once_like_the_recorded_run(
    rft: Rft, opened: list[EvaluateConfig], tmp_path: Path, tiny_model: Path
) -> None:
    evaluate.evaluate(*KEYS, {"output_dir": "first", "model.path": "embedded:tiny", "seed": 3}, quiet=True)
    write_adapter(tmp_path / "adapter", str(tiny_model))
    code, out, error = rft("compare", "--json", "found.json", "base=first", "tuned=adapter")
    assert (code, error) == (0, "")
    folder = Path(re.findall("tuned: measured now, in (runs/compare/tuned-[0-9a-f]{12})", out)[0])
    assert json.loads((folder / "summary.json").read_text())["mean"] == 1.0
    one, other = (config.model_dump(exclude={"output_dir", "name", "adapter", "model"}) for config in opened)
    assert one == other and other["seed"] == 3
    [found] = json.loads((tmp_path / "found.json").read_text())["compared"]
    assert found["differences"][0]["mean"] == pytest.approx(5 / 6) and found["num_tasks"] == 6

    _, out, _ = rft("compare", "base=first", "tuned=adapter")
    assert f"tuned: measured by an earlier comparison, in {folder}" in out
    assert rft("compare", "base=first", f"tuned={folder}")[0] == 0  # an ordinary folder of rft evaluate
    assert len(opened) == 2

    (folder / "summary.json").write_text('{"status": "interrupted"}')
    _, out, _ = rft("compare", "base=first", "tuned=adapter", "--metric", "correct")
    assert f"tuned: measured now, in {folder}-2" in out and len(opened) == 3


def test_an_adapter_keeps_the_prompts_of_its_own_run(rft: Rft, opened: list[EvaluateConfig], tmp_path: Path) -> None:
    evaluate.evaluate(*KEYS, {"output_dir": "first", "model.path": "embedded:tiny", "data.system": "Add."}, quiet=True)
    write_adapter(tmp_path / "second" / "adapter", "/gone/model")
    own = {"model": {"path": "embedded:tiny"}, "data": {"system": "Be brief."}, "sampler": {"max_completion_tokens": 9}}
    (tmp_path / "second" / "config.yaml").write_text(yaml.safe_dump(own))
    assert rft("compare", "first", "second/adapter", "base=embedded:tiny")[0] == 0
    assert [config.data.system for config in opened] == ["Add.", "Be brief.", "Add."]
    assert [config.model.path for config in opened] == ["embedded:tiny"] * 3
    assert len({config.sampler.max_completion_tokens for config in opened}) == 1


def test_a_grader_of_the_command_line_grades_what_is_recorded(
    rft: Rft, opened: list[EvaluateConfig], tmp_path: Path, tiny_model: Path
) -> None:
    evaluate.evaluate(*KEYS, {"output_dir": "first", "model.path": "embedded:tiny"}, quiet=True)
    write_adapter(tmp_path / "adapter", str(tiny_model))
    near = ("graders.near.use=numeric", "--json", "found.json")
    assert rft("compare", "base=first", "tuned=adapter", *near)[0] == 0
    found = {one["metric"]: one for one in json.loads((tmp_path / "found.json").read_text())["compared"]}
    assert [*found] == ["reward"]  # of the graders of the run; both graders agree with it
    [folder] = (tmp_path / "runs" / "compare").glob("base-graded-*")
    scores = [json.loads(line)["scores"]["near"]["value"] for line in (folder / "scores.jsonl").open()]
    assert scores == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    (tmp_path / "found.json").unlink()
    assert rft("compare", "base=first", "again=first", *near, "--metric", "near")[0] == 0
    found = {one["metric"]: one for one in json.loads((tmp_path / "found.json").read_text())["compared"]}
    assert found["near"]["means"]["base"]["mean"] == pytest.approx(1 / 6)
    assert len([*(tmp_path / "runs" / "compare").glob("*graded*")]) == 3  # that of the first place was there
    assert rft("compare", "base=first", "tuned=adapter")[0] == 0
    assert len(opened) == 2  # a further grader is no other measurement


def test_without_a_run_the_keys_say_on_what_to_measure(rft: Rft, opened: list[EvaluateConfig], tmp_path: Path) -> None:
    write_adapter(tmp_path / "adapter", "embedded:tiny")
    more = ("graders.near.use=numeric", "graders.near.weight=0", "evaluation.completions_per_task=2")
    code, out, _ = rft("compare", "embedded:tiny", "adapter", *KEYS, "--metric", "near", "--pass-at", "2", *more)
    assert code == 0 and "near: 6 common tasks" in out and "pass@2" in out
    assert [config.adapter for config in opened] == [None, "adapter"]


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (["embedded:tiny", "adapter"], ["data.test is missing", "graders is empty", "no place is a run that says on"]),
        (["first", "adapter", "data.test=others.jsonl"], ["first and adapter measured no common task"]),
        (["first", "adapter", "graders.correct.ignore_case=true"], ["no metric can be compared"]),
        (["first", "second=first", "seed=1"], ["seed=1: every place is recorded, so nothing is measured"]),
        (["first", "embedded:tiny", "model.path=x"], ["model.path: embedded:tiny is a base model by itself"]),
        (["first", "embedded:big", "runs", "data.test=no.jsonl"], ["embedded:big is not", "runs: no such", "no.jsonl"]),
    ],
)
def test_problems_are_told_before_anything_is_measured(
    rft: Rft, opened: list[EvaluateConfig], tmp_path: Path, tiny_model: Path, words: list[str], messages: list[str]
) -> None:
    evaluate.evaluate(*KEYS, {"output_dir": "first", "model.path": "embedded:tiny"}, quiet=True)
    write_adapter(tmp_path / "adapter", str(tiny_model))
    write_tasks(tmp_path / "others.jsonl", 100)
    opened.clear()
    code, _, error = rft("compare", *words)
    assert code == 2 and not opened and not (tmp_path / "runs").exists()
    assert [message for message in messages if message not in error] == [], error


def test_a_place_is_one_thing(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "runs" / "one" / "adapter", "embedded:tiny")
    (tmp_path / "empty").mkdir()
    assert place_of(str(folder), name="a").adapter == str(folder)
    assert place_of("owner/model", name="a").model == "owner/model"
    with pytest.raises(ValueError, match="runs/two: no such file or folder"):
        place_of(f"{tmp_path}/runs/two", name="a")
    with pytest.raises(ValueError, match=r"empty: neither a run \(rollouts.jsonl\), an adapter"):
        place_of(str(tmp_path / "empty"), name="a")
    (folder / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds both a model \(config.json\) and an adapter"):
        place_of(str(folder), name="a")
