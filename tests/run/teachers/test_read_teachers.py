"""The teacher of a run: who it is, and whether it can read the student's tokens."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from rich.console import Console

from rft.config import RunConfig
from rft.config.samplers.vllm import VllmSamplerConfig
from rft.config.teacher_problems import teacher_gpus
from rft.errors import ModelError, UsageError
from rft.models.base_model import EMBEDDED_MODELS, fingerprint
from rft.models.weight_files import read_weights
from rft.run.check import plan_training
from rft.run.inputs.prepare import prepare
from rft.run.open_folder import code_changes, manifest_of, open_recorder
from rft.run.teachers.read_teachers import Teacher, require_room
from rft.run_folder.model_card import model_card
from rft.types import Policy

TINY = EMBEDDED_MODELS["embedded:tiny"]
MODULE = "model.layers.0.self_attn.q_proj"


@pytest.fixture
def teacher_model(tmp_path: Path) -> Callable[..., Path]:
    """`teacher_model(**changes)`: a copy of the tiny model whose tokenizer_config.json has changed."""

    def copy(**changes: Any) -> Path:
        folder = tmp_path / "teacher"
        shutil.copytree(TINY, folder)
        file = folder / "tokenizer_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
        return folder

    return copy


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter of the tiny model."""
    size_out, size_in = read_weights(TINY).tensors[f"{MODULE}.weight"].shape
    content = {
        f"base_model.model.{MODULE}.lora_A.weight": np.ones((2, size_in), dtype=np.float32),
        f"base_model.model.{MODULE}.lora_B.weight": np.ones((size_out, 2), dtype=np.float32),
    }
    folder = tmp_path / "expert"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4}))
    (folder / "adapter_model.safetensors").write_bytes(safetensors.numpy.save(content))
    return folder


@pytest.fixture
def run_of(tmp_path: Path) -> Callable[..., RunConfig]:
    """`run_of(path=..., adapter=...)`: a run with this teacher."""
    (tmp_path / "train.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n')

    def make(**teacher: Any) -> RunConfig:
        return RunConfig.model_validate(
            {
                "output_dir": str(tmp_path / "run"),
                "model": {"path": str(TINY)},
                "data": {"train": str(tmp_path / "train.jsonl")},
                "sampler": {"kind": "transformers", "max_completion_tokens": 8},
                "learner": {"kind": "distill"},
                "loop": {"prompts_per_step": 1, "steps": 2},
                "teacher": {name: str(value) for name, value in teacher.items()},
                "graders": {},
            }
        )

    return make


def test_a_teacher_is_a_model_with_or_without_an_adapter(
    run_of: Callable[..., RunConfig], teacher_model: Callable[..., Path], adapter: Path
) -> None:
    model = teacher_model()
    teacher = prepare(run_of(path=model, adapter=adapter), needs_training_tasks=True).teachers[0]
    mark = hashlib.sha256((adapter / "adapter_model.safetensors").read_bytes()).hexdigest()[:16]
    of_model = fingerprint(model)
    assert teacher.facts == {
        "path": str(model),
        "fingerprint": of_model,
        "adapter": {"path": str(adapter), "fingerprint": mark},
    }
    assert str(teacher) == f"{model} (fingerprint {of_model}) with the adapter {adapter} (fingerprint {mark})"
    assert teacher.warnings == ()
    of_student = prepare(run_of(adapter=adapter), needs_training_tasks=True).teachers[0]
    assert (of_student.name, of_student.base.fingerprint) == (str(TINY), fingerprint(TINY))


def test_manifest_card_and_plan_name_the_teacher(run_of: Callable[..., RunConfig], adapter: Path) -> None:
    run = run_of(adapter=adapter)
    prepared = prepare(run, needs_training_tasks=True)
    manifest = manifest_of(run, prepared, ["rft", "train"])
    assert manifest["teacher"] == prepared.teachers[0].facts
    plan = plan_training(run, Console(quiet=True))
    assert plan.rows["teacher"] == f"{prepared.teachers[0]}, on 1 x transformers"
    assert plan.rows["teacher memory"]
    assert plan.rows["graders"] == ""
    summary: dict[str, Any] = {"steps": 2, "eval": {}}
    card = model_card(summary, run.model_dump(), manifest, folder=Path("adapter"), base_model=str(TINY))
    assert "trained by on-policy distillation from a teacher with rft" in card
    assert f"\n\nTeacher: `{TINY}`, fingerprint `{fingerprint(TINY)}` with the adapter `{adapter}`" in card


def test_a_teacher_that_changed_is_told_on_resume(
    run_of: Callable[..., RunConfig], adapter: Path, tmp_path: Path
) -> None:
    run = run_of(adapter=adapter)
    prepared = prepare(run, needs_training_tasks=True)
    manifest = manifest_of(run, prepared, ["rft", "train"])
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert code_changes(run, prepared, tmp_path) == []
    manifest["teacher"]["adapter"]["fingerprint"] = "other"
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (warning,) = code_changes(run, prepared, tmp_path)
    assert warning.startswith(f"teacher.adapter ({adapter}) has changed since the run began")


def refused(run: RunConfig) -> str:
    with pytest.raises(UsageError) as caught:
        prepare(run, needs_training_tasks=True)
    return "\n".join(caught.value.problems)


def test_another_vocabulary_is_refused(run_of: Callable[..., RunConfig], teacher_model: Callable[..., Path]) -> None:
    model = teacher_model()
    file = model / "tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    first, second = "7", "8"
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    file.write_text(json.dumps(content))
    problem = refused(run_of(path=model))
    assert problem.startswith(f"teacher.path={model}: it has another tokenizer than the student: 2 tokens of ")
    assert f"'7' (student {vocabulary[second]}, teacher {vocabulary[first]})" in problem


def test_other_special_tokens_are_refused_but_padding_may_differ(
    run_of: Callable[..., RunConfig], teacher_model: Callable[..., Path], tmp_path: Path
) -> None:
    model = teacher_model(pad_token="7")
    assert prepare(run_of(path=model), needs_training_tasks=True).teachers
    shutil.rmtree(model)
    problem = refused(run_of(path=teacher_model(eos_token="8")))
    assert "it has other special tokens than the student: eos_token (student " in problem
    assert "teacher '8')" in problem


def test_all_problems_of_a_teacher_are_told_together(run_of: Callable[..., RunConfig]) -> None:
    problem = refused(run_of(path="/no/model", adapter="/no/adapter"))
    assert "teacher.adapter=/no/adapter: /no/adapter does not exist" in problem
    assert "teacher.path=/no/model: no folder at /no/model" in problem


def test_an_adapter_of_another_model_is_refused(run_of: Callable[..., RunConfig], adapter: Path) -> None:
    (adapter / "config.yaml").write_text("model: {path: 'embedded:tiny'}\n")
    (adapter / "manifest.json").write_text(json.dumps({"base_model": {"fingerprint": "other"}}))
    problem = refused(run_of(adapter=adapter))
    assert problem.startswith(f"teacher.adapter={adapter}: it was trained on a base model with the fingerprint other")
    assert problem.endswith("give its base model in teacher.path")


def test_an_adapter_that_vllm_serves_only_merged_is_merged(run_of: Callable[..., RunConfig], adapter: Path) -> None:
    (adapter / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 4, "use_dora": True}))
    run = run_of(adapter=adapter)
    vllm = VllmSamplerConfig(max_completion_tokens=8)
    run = run.model_copy(update={"sampler": vllm})
    teacher = prepare(run, needs_training_tasks=True).teachers[0]
    assert teacher.sampler(run, on_gpu=True).serving({}, "bfloat16") == "merged"
    as_adapter = run.model_copy(update={"sampler": vllm.model_copy(update={"serve": "adapter"})})
    assert refused(as_adapter) == (
        f"teacher.adapter={adapter}: use_dora: vLLM does not serve DoRA as an adapter; use sampler.serve=merged"
    )


def test_another_chat_template_is_worth_a_warning(
    run_of: Callable[..., RunConfig], teacher_model: Callable[..., Path]
) -> None:
    model = teacher_model()
    (model / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    teacher = prepare(run_of(path=model), needs_training_tasks=True).teachers[0]
    assert "the teacher has another chat template than the student" in teacher.warnings[0]


def test_the_teacher_must_see_whole_sequences() -> None:
    teacher = Teacher(model=TINY, name="big", base=Policy(version=0, fingerprint="base"), context_tokens=41)
    require_room([teacher], 30, 10)
    with pytest.raises(ModelError) as caught:
        require_room([teacher], 31, 10)
    (problem,) = caught.value.problems
    assert problem.startswith("teacher.path=big: sees 41 tokens, and must see 42")


def test_a_resumed_run_needs_the_adapter_no_more(run_of: Callable[..., RunConfig], adapter: Path) -> None:
    run = run_of(adapter=adapter)
    prepared = prepare(run, needs_training_tasks=True)
    recorder = open_recorder(run, prepared, ["rft", "train"], None)
    shutil.rmtree(adapter)
    resumed = run.model_copy(update={"resume": str(recorder.folder)})
    again = prepare(resumed, needs_training_tasks=True)
    assert again.teachers == prepared.teachers
    assert code_changes(resumed, again, recorder.folder) == []
    (recorder.folder / "teacher" / "0" / "adapter_config.json").unlink()
    assert (
        refused(resumed)
        == f"teacher.adapter={adapter}: {adapter} does not exist; name a run folder or an adapter folder"
    )


@pytest.fixture
def mixed(run_of: Callable[..., RunConfig], tmp_path: Path) -> Callable[..., RunConfig]:
    """`mixed(sums={"adapter": ...}, gcd={...})`: a run on a mixture of two families with these teachers."""
    sources = {}
    for family in ("sums", "gcd"):
        sources[family] = {"source": str(tmp_path / f"{family}.jsonl"), "graders": ["correct"]}
        (tmp_path / f"{family}.jsonl").write_text(f'{{"prompt": "{family}", "answer": "2"}}\n')

    def make(**by_family: Any) -> RunConfig:
        values = run_of(path=TINY).model_dump()
        values["data"] |= {"train": None, "mixture": sources}
        values["graders"] = {"correct": {"use": "exact"}}
        return RunConfig.model_validate(values | {"teacher": {"by_family": by_family}})

    return make


def test_each_family_may_have_its_teacher(
    mixed: Callable[..., RunConfig], teacher_model: Callable[..., Path], adapter: Path, tmp_path: Path
) -> None:
    model = teacher_model()
    run = mixed(sums={"adapter": str(adapter)}, gcd={"path": str(model)})
    prepared = prepare(run, needs_training_tasks=True)
    sums, gcd = prepared.teachers
    assert ((sums.families, sums.name), (gcd.families, gcd.name)) == ((("sums",), str(TINY)), (("gcd",), str(model)))
    assert (sums.adapter is None, gcd.adapter is None) == (False, True)
    manifest = manifest_of(run, prepared, ["rft", "train"])
    assert manifest["teachers"] == {"sums": sums.facts, "gcd": gcd.facts}
    summary: dict[str, Any] = {"steps": 2, "eval": {}}
    card = model_card(summary, run.model_dump(), manifest, folder=tmp_path, base_model=str(TINY))
    assert f"Teacher of gcd: `{model}`, fingerprint `{gcd.base.fingerprint}`." in card
    rows = plan_training(run, Console(quiet=True)).rows
    assert rows["teacher of gcd"] == f"{gcd}, on 1 x transformers"
    assert rows["teacher of sums memory"]


def test_families_with_one_teacher_share_its_engines(mixed: Callable[..., RunConfig]) -> None:
    one = {"path": str(TINY)}
    run = mixed(sums=one, gcd=one)
    (teacher,) = prepare(run, needs_training_tasks=True).teachers
    assert teacher.families == ("sums", "gcd")
    assert len(teacher_gpus(run)) == 1
