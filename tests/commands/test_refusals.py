"""What is given can be wrong in many ways: it is refused, nothing is started and nothing is written."""

import json
import shutil
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from rft.commands.guard import guarded
from rft.errors import EarlierName

Rft = Callable[..., tuple[int, str, str]]


@pytest.fixture
def wrong(rft: Rft, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[str]]:
    """Train on what the words say, which must fail; returns the bullets.

    Four tasks in train.jsonl, a model and a grader are right unless the words say otherwise.
    """
    import ray

    def no_ray(*_: Any, **__: Any) -> None:
        raise AssertionError("Ray would have been started")

    monkeypatch.setattr("rft.run.parts.workplace", no_ray)
    # Whatever is wrong with the inputs is told before Ray is started, even ahead of its use.
    monkeypatch.setattr("rft.api.train.ray_ahead_for", no_ray)
    monkeypatch.setattr("rft.api.evaluate.ray_ahead_for", no_ray)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    write_tasks(tmp_path / "train.jsonl", [{"prompt": f"{number} + 1 =", "answer": "2"} for number in range(4)])
    right = {
        "model.path": str(tiny_model),
        "data.train": "train.jsonl",
        "graders.correct.use": "exact",
        "loop.prompts_per_step": "2",
        "output_dir": "out",
    }

    def call(*words: str, command: str = "train") -> list[str]:
        given = {word.partition("=")[0] for word in words}
        fill = [f"{key}={value}" for key, value in right.items() if key not in given] if command == "train" else []
        fakes = ["sampler=fake", *(["learner=fake"] if command == "train" else [])]
        before, was_connected = sorted(tmp_path.rglob("*")), ray.is_initialized()
        code, out, err = rft(command, *fakes, *fill, *words)
        assert (code, out) == (2, "")
        assert "Traceback" not in err
        assert sorted(tmp_path.rglob("*")) == before, "something was written"
        assert ray.is_initialized() == was_connected
        first, *bullets = err.removesuffix("\n").split("\n  - ")
        assert first.startswith("rft: ")
        return bullets

    return call


def write_tasks(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_missing_task_file(wrong: Callable[..., list[str]], tmp_path: Path) -> None:
    assert wrong("data.train=trian.jsonl") == [
        f"data.train=trian.jsonl: no file at {tmp_path}/trian.jsonl; the same folder contains train.jsonl"
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[1]\n", "bad.jsonl:1: not a JSON object but "),
        ('{"prompt": "a"}\n{"prompt": \n', "bad.jsonl:2: invalid JSON: Expecting value at column "),
        ('{"question": "a"}\n', 'bad.jsonl:1: neither "messages" nor "prompt"; it has: question (map one with data.'),
        ("\n", "data.train=bad.jsonl is empty: it contains no task"),
        (
            '{"prompt": "a", "id": 1}\n{"prompt": "b", "id": 1}\n',
            'bad.jsonl:2: bad.jsonl:1 has the same id "1"; make ids unique, or remove them',
        ),
    ],
)
def test_a_bad_task_file(wrong: Callable[..., list[str]], tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "bad.jsonl").write_text(content)
    (found,) = wrong("data.train=bad.jsonl")
    assert found.startswith(problem)


def test_the_same_prompt_in_train_and_validation(wrong: Callable[..., list[str]], tmp_path: Path) -> None:
    write_tasks(tmp_path / "validation.jsonl", [{"prompt": "new"}, {"prompt": "3 + 1 ="}])
    assert wrong("data.validation=validation.jsonl") == [
        "1 of the 2 prompts of data.validation are also in data.train (validation.jsonl:2 = train.jsonl:4); remove "
        "them from one of the files, or set data.allow_overlap=true"
    ]


def test_more_prompts_per_step_than_tasks(wrong: Callable[..., list[str]]) -> None:
    assert wrong("loop.prompts_per_step=5") == [
        "loop.prompts_per_step=5: there are only 4 training tasks; lower it or give more tasks"
    ]


def test_prompts_that_are_too_long(wrong: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rft.api.train.ray_ahead_for", lambda _: nullcontext())  # it starts while prompts are rendered
    # "0 + 1 =" is 7 characters and as many tokens; the template adds three.
    (found,) = wrong("model.max_context_tokens=30", "sampler.max_completion_tokens=21")
    assert found.startswith(
        "4 of 4 prompts are longer than 9 = 30 of context - sampler.max_completion_tokens=21 tokens"
    )
    assert found.endswith("with 10 tokens; lower sampler.max_completion_tokens, or use a model with a longer context")


def test_a_folder_that_is_no_model(wrong: Callable[..., list[str]], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert wrong("model.path=model") == [
        f"model.path=model: the model in {tmp_path}/model is incomplete: config.json is missing; "
        "weights are missing (*.safetensors)"
    ]


def test_a_model_that_is_not_on_this_machine(wrong: Callable[..., list[str]]) -> None:
    (found,) = wrong("model.path=no-such-owner/name")
    assert found.startswith("model.path=no-such-owner/name is neither a local folder nor a model that the Hugging Face")


def test_a_tokenizer_without_a_chat_template(wrong: Callable[..., list[str]], tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    (found,) = wrong("model.path=model")
    assert found.startswith("the tokenizer in model has no chat template")
    assert "model.chat_template=<file.jinja>" in found


@pytest.mark.parametrize(
    ("use", "problem"),
    [
        ("exat", "there is no grader 'exat' (did you mean 'exact'?); the built-in ones are "),
        ("mine.py:grade", "mine.py:2: syntax error: "),
        ("mien.py:grade", "the file mien.py does not exist (working directory: "),
    ],
)
def test_a_bad_grader(wrong: Callable[..., list[str]], tmp_path: Path, use: str, problem: str) -> None:
    (tmp_path / "mine.py").write_text("\ndef grade(completion:\n    return 1\n")
    (found,) = wrong(f"graders.correct.use={use}")
    assert found.startswith(f"graders.correct.use: {problem}")


def test_bad_sinks(wrong: Callable[..., list[str]], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class Sink:\n    def close(self): ...\n")
    first, second = wrong("logging.sinks=[gone.py:Sink,mine.py:Sink]")
    assert first.startswith("logging.sinks=gone.py:Sink: the file gone.py does not exist (working directory: ")
    assert second == "logging.sinks=mine.py:Sink: a sink has the methods event(event) and close(); Sink lacks event"


def test_a_folder_that_holds_a_run_is_left_as_it_is(wrong: Callable[..., list[str]], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name in ("config.yaml", "metrics.jsonl"):
        (tmp_path / "out" / name).write_bytes(b"somebody's work\n")
    assert wrong() == ["out already holds a run; continue it with resume=out, or choose another output_dir"]
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == {
        "config.yaml": b"somebody's work\n",
        "metrics.jsonl": b"somebody's work\n",
    }


def test_an_output_folder_below_a_file(wrong: Callable[..., list[str]], tmp_path: Path) -> None:
    assert wrong("output_dir=train.jsonl/run") == [
        f"{tmp_path}/train.jsonl is a file, not a folder; choose another output_dir"
    ]


def test_a_resume_without_a_run(wrong: Callable[..., list[str]], tmp_path: Path) -> None:
    assert wrong("resume=nowhere") == [f"resume=nowhere: the folder does not exist (working directory: {tmp_path})"]
    (tmp_path / "out").mkdir()
    assert wrong("resume=out") == ["resume=out: the folder contains no run (no config.yaml)"]


def test_everything_that_is_wrong_is_told_at_once(wrong: Callable[..., list[str]], tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('[1]\n{"prompt": "fine"}\n{"prompt": 3}\n')
    found = wrong(
        "model.path=/nowhere/at/all", "data.train=bad.jsonl", "data.validation=gone.jsonl", "data.test=gone.csv"
    )
    assert [problem.split(": ")[0] for problem in found] == [
        "model.path=/nowhere/at/all",
        "bad.jsonl:1",
        "bad.jsonl:3",
        "data.validation=gone.jsonl",
        "data.test=gone.csv",
    ]


def test_an_evaluation_of_what_is_not_there(wrong: Callable[..., list[str]], tmp_path: Path) -> None:
    words = ["data.test=gone.jsonl", "graders.correct.use=exact", "output_dir=out"]
    assert wrong("adapter=nowhere", *words, command="evaluate") == [
        "nowhere does not exist; name a run folder or an adapter folder"
    ]
    found = wrong("model.path=/nowhere/at/all", *words, command="evaluate")
    assert [problem.split(": ")[0] for problem in found] == ["model.path=/nowhere/at/all", "data.test=gone.jsonl"]


def test_a_sample_of_what_is_not_there(rft: Rft) -> None:
    code, out, err = rft("sample", "hello")
    assert (code, out) == (2, "")
    assert err == "rft: sample:\n  - give --adapter <run folder>, or --model <folder or hub id>, or both\n"
    code, _, err = rft("sample", "hello", "--model", "/nowhere/at/all")
    assert code == 2
    assert err == "rft: base model:\n  - model.path=/nowhere/at/all: no folder at /nowhere/at/all\n"


def test_missing_files_are_named_with_mistakes_of_the_configuration(
    wrong: Callable[..., list[str]], tmp_path: Path
) -> None:
    found = wrong("loop.stepz=3", "name=../../x", "data.train=gone.jsonl", "data.test=gone", "model.path=/no/model")
    assert [problem.split(": ")[0] for problem in found] == [
        "name=../../x",
        "loop.stepz is unknown; did you mean loop.steps? Allowed in loop",
        "data.train=gone.jsonl",
        f"data.test=gone is not a source of tasks, and {tmp_path}/gone does not exist; allowed",
        "model.path=/no/model",
    ]


def test_the_warning_about_an_earlier_name_is_one_line_without_a_place_in_the_code() -> None:
    shown = []

    def command(words: list[str]) -> int:
        shown.append(warnings.formatwarning(EarlierName("a is now b"), EarlierName, "code.py", 3, ""))
        shown.append(warnings.formatwarning(UserWarning("other"), UserWarning, "code.py", 3, ""))
        return 0

    assert guarded(command, []) == 0
    assert shown == ["rft: a is now b\n", "code.py:3: UserWarning: other\n"]
