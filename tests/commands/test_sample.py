"""`rft sample` with an adapter: what it takes from the run, and what is given instead."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import rft
from rft.commands.sample import run_sample
from rft.data.shots import Shot, Shots
from rft.errors import ModelError
from rft.learning.pack_weights import pack_adapter
from rft.models.base_model import load_tokenizer
from rft.run_folder.result_folders import save_adapter
from rft.sampling.engine import Request, SamplingOptions

Asked = Callable[..., tuple[list[Request], SamplingOptions]]


@pytest.fixture(scope="module")
def run(make_peft_model: Any, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    adapter = pack_adapter(make_peft_model(seed=1), version=1, base_model_name=str(tiny_model))
    save_adapter(folder / "adapter", adapter, load_tokenizer(tiny_model, None), "")
    (folder / "config.yaml").write_text(
        "model: {path: embedded:tiny}\ndata: {system: Be brief., format: chat}\n"
        "sampler: {max_completion_tokens: 12, stop: ['=']}\n"
    )
    return folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """`asked("1+1", "--adapter", ...)`: what the engine is asked for."""
    seen: list[tuple[list[Request], SamplingOptions]] = []

    def remember(_: Any, requests: list[Request], options: SamplingOptions) -> list[Any]:
        seen.append((requests, options))
        return []

    monkeypatch.setattr("rft.api.sample.sample_all", remember)

    def sample(*words: str) -> tuple[list[Request], SamplingOptions]:
        assert run_sample([*words, "--sampler", "transformers"], console=Console()) == 0
        return seen[-1]

    return sample


def prompt(tiny_model: Path, *messages: tuple[str, str]) -> tuple[int, ...]:
    chat = [{"role": role, "content": content} for role, content in messages]
    ids = load_tokenizer(tiny_model, None).apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    return tuple(ids)


def test_the_settings_are_those_of_the_run(
    run: Path, tiny_model: Path, asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    requests, options = asked("1+1", "--adapter", str(run), "--num", "2")
    assert [request.prompt_ids for request in requests] == [
        prompt(tiny_model, ("system", "Be brief."), ("user", "1+1"))
    ] * 2
    assert (options.max_completion_tokens, options.stop, options.temperature) == (12, ("=",), 1.0)
    said = capsys.readouterr().err
    assert said.startswith(f"settings of {run}: data.system=Be brief., sampler.max_completion_tokens=12, sampler.stop=")
    assert "\nsampler memory: " in said


def test_what_is_given_stays(run: Path, tiny_model: Path, asked: Asked) -> None:
    words = ("--adapter", str(run / "adapter"), "--system", "", "--max-tokens", "5", "--stop", "a", "--stop", "b")
    requests, options = asked("1+1", *words)
    assert requests[0].prompt_ids == prompt(tiny_model, ("user", "1+1"))
    assert (options.max_completion_tokens, options.stop) == (5, ("a", "b"))


def test_a_raw_prompt(run: Path, tiny_model: Path, asked: Asked) -> None:
    requests, _ = asked("1+1", "--adapter", str(run), "--format", "raw")
    assert requests[0].prompt_ids == tuple(load_tokenizer(tiny_model, None).encode("1+1"))


def test_a_base_model_has_the_defaults(tiny_model: Path, asked: Asked) -> None:
    requests, options = asked("1+1", "--model", str(tiny_model))
    assert requests[0].prompt_ids == prompt(tiny_model, ("user", "1+1"))
    assert (options.max_completion_tokens, options.stop) == (256, ())


def test_worked_examples(run: Path, tiny_model: Path, asked: Asked, tmp_path: Path) -> None:
    example = ({"role": "user", "content": "2+2"}, {"role": "assistant", "content": "4"})
    shots = Shots(num=1, seed=0, source="", examples=(Shot(task_id="a", where="", chat=example),))
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    (copied / "shots.json").write_text(shots.to_text())
    config = (copied / "config.yaml").read_text().replace("format: chat", "format: chat, shots: 1")
    (copied / "config.yaml").write_text(config)
    with_example = (("user", "2+2"), ("assistant", "4"), ("user", "1+1"))
    requests, _ = asked("1+1", "--adapter", str(copied / "adapter"))
    assert requests[0].prompt_ids == prompt(tiny_model, ("system", "Be brief."), *with_example)
    requests, _ = asked("1+1", "--adapter", str(copied), "--shots", "")
    assert requests[0].prompt_ids == prompt(tiny_model, ("system", "Be brief."), ("user", "1+1"))
    requests, _ = asked("1+1", "--model", str(tiny_model), "--shots", str(copied))
    assert requests[0].prompt_ids == prompt(tiny_model, *with_example)
    with pytest.raises(ModelError, match="the folder has no worked examples"):
        asked("1+1", "--model", str(tiny_model), "--shots", str(run))


def test_something_must_be_given() -> None:
    with pytest.raises(ModelError, match="give --adapter <run folder>, or --model"):
        run_sample(["1+1"], console=Console())


def test_from_python(run: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[Request], SamplingOptions]] = []

    def remember(_: Any, requests: list[Request], options: SamplingOptions) -> list[Any]:
        seen.append((requests, options))
        return []

    monkeypatch.setattr("rft.api.sample.sample_all", remember)
    assert rft.sample("1+1", adapter=run, stop=["\n"], num=3, sampler="transformers") == []
    [(requests, options)] = seen
    of_run = prompt(tiny_model, ("system", "Be brief."), ("user", "1+1"))
    assert [request.prompt_ids for request in requests] == [of_run] * 3
    assert (options.max_completion_tokens, options.stop) == (12, ("\n",))
    with pytest.raises(ModelError, match="give adapter"):
        rft.sample("1+1")
