"""Every YAML file in conf/ can be composed, and says nothing that the schema does not know."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from rft.config.commands import load_evaluation, load_grading, load_training
from rft.config.pipeline_arguments import read_pipeline
from rft.config.presets import conf_dir, lists_stages
from rft.errors import ConfigError

CONF = conf_dir()
ALL = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml"))
PIPELINES = [name for name in ALL if lists_stages(name, [CONF])]
EXPERIMENTS = [name for name in ALL if name not in PIPELINES]
VARIED = [name for name in EXPERIMENTS if not name.endswith(("_smollm2", "_gpu"))]
"""The experiments that do not only give another one a real model."""
KINDS = [
    *[(name, ()) for name in EXPERIMENTS],
    *[(name, ("sampler=fake", "learner=fake")) for name in VARIED],
    *[pytest.param(name, ("sampler=transformers",), marks=pytest.mark.full) for name in VARIED],
]
PRESETS = sorted(
    f"{file.parent.name}={file.stem}"
    for file in CONF.glob("*/*.yaml")
    if file.parent.name not in ("experiment", "sweep")
)
OF_A_STORE = {
    "retrieval=http": ["retrieval.url=http://localhost/search"],
    "retrieval=local": ["retrieval.index=index/"],
    "retrieval=pgvector": ["retrieval.table=posts", "retrieval.embedder.kind=hashing"],
}
"""Keys of a store that have no default."""
INSTALLED = "logging.report_to=[]"
"""Presets of trackers need packages that are not everywhere."""


@pytest.mark.parametrize(("experiment", "kinds"), KINDS)
def test_an_experiment_has_no_problem(experiment: str, kinds: tuple[str, ...]) -> None:
    # vLLM's own options, of which only the experiments for a GPU give some, are for vLLM alone.
    needs_vllm = "engine" in yaml.safe_load((CONF / "experiment" / f"{experiment}.yaml").read_text()).get("sampler", {})
    words = [f"experiment={experiment}", *kinds]
    if needs_vllm and kinds:
        words.append("~sampler.engine")
    if "learner=fake" in kinds and getattr(load_training(words[:1]).learner, "warmup_steps", 0):
        words.append("~learner.warmup_steps")  # of learner=sft alone
    run = load_training(words)
    assert run.name == experiment, "so that its runs are found under its own name"
    assert run.model.path


@pytest.mark.parametrize("experiment", PIPELINES)
def test_a_pipeline_has_no_problem(experiment: str) -> None:
    stages = read_pipeline([f"experiment={experiment}"]).stages
    assert {load_training(stage.words).name for stage in stages} == {experiment}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rft.imports.is_installed", lambda package: True)  # presets of stores need theirs, too
    words = [] if preset.startswith("data=") else ["data=chain_sum"]
    words += ["learner=fake"] if preset == "sampler=fake" else []
    words += ["teacher.path=embedded:tiny"] if preset == "learner=distill" else []
    words += OF_A_STORE.get(preset, [])
    load_training(["model.path=embedded:tiny", "graders.correct.use=exact", *words, preset, INSTALLED])


@pytest.mark.parametrize("preset", [preset for preset in PRESETS if preset.startswith(("data=", "sampler="))])
def test_a_preset_in_an_evaluation(preset: str) -> None:
    words = [] if preset.startswith("data=") else ["data=chain_sum"]
    load_evaluation(["model.path=embedded:tiny", "graders.correct.use=exact", *words, preset])


def test_only_what_must_be_given_is_missing() -> None:
    with pytest.raises(ConfigError) as caught:
        load_training([])
    assert [problem.split()[0] for problem in caught.value.problems] == ["model.path", "data.train", "graders"]


def test_a_grading_goes_on_whatever_graders_fail_on() -> None:
    config = load_grading(["data=runs/a", "graders.correct.use=exact"])
    assert (config.data.completions, config.grading.max_fault_share) == ("runs/a", 1.0)


@pytest.mark.parametrize("file", sorted(CONF.rglob("*.yaml")), ids=lambda file: str(file.relative_to(CONF)))
def test_no_text_is_cut_short_by_a_comment(file: Path) -> None:
    """An unquoted ` #` begins a comment, so `the answer after ####.` loses its end."""
    for line in file.read_text(encoding="utf-8").splitlines():
        before, mark, _ = line.partition(" #")
        quoted = before.count('"') % 2 == 1 or before.count("'") % 2 == 1
        assert not mark or quoted or not before.strip() or line.strip().startswith(("#", "rft ")), line


def test_the_system_message_of_gsm8k_is_whole() -> None:
    preset: dict[str, Any] = yaml.safe_load((CONF / "data" / "gsm8k.yaml").read_text())
    assert preset["system"].endswith("as a number after ####.")
