"""`rft` as it is typed: help, plans, and all that can be wrong with what is given, told before anything starts."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml

from rft import __version__
from rft.cli import guarded, main
from rft.config.learners import GrpoLearnerConfig
from rft.config.samplers import VllmSamplerConfig
from rft.config.schema import LoopConfig, RunConfig
from rft.errors import LearnError

# Commands with `then` in between, in a process of their own, which tells last what it imported. All but the last must
# succeed.
PROGRAM = """
import sys
from rft.cli import main
words = sys.argv[1:]
try:
    while "then" in words:
        first, words = words[: words.index("then")], words[words.index("then") + 1 :]
        try:
            main(first)
        except SystemExit as end:
            assert end.code == 0, end.code
        print("then:", flush=True)
    main(words)
finally:
    heavy = ("torch", "ray", "vllm", "trl", "transformers", "peft", "datasets", "accelerate")
    print("imported:", *(name for name in heavy if name in sys.modules), file=sys.stderr)
"""

Rft = Callable[..., tuple[int, str, str]]


@pytest.fixture
def rft(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Rft:
    """Run a command in this process and an empty folder; returns its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rft"])

    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert isinstance(caught.value.code, int)
        return caught.value.code, *capsys.readouterr()

    return call


def rft_alone(folder: Path, *words: str, imports: str = "") -> tuple[int, str, str]:
    """The same in a process of its own, without anything heavy imported but `imports`; `then` parts commands."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, cwd=folder)
    *said, imported = done.stderr.splitlines(keepends=True)
    assert imported.split() == ["imported:", *imports.split()]
    return done.returncode, done.stdout, "".join(said)


# Help, version, and what is no command.


def test_help(rft: Rft) -> None:
    code, out, err = rft("--help")
    assert (code, err) == (0, "")
    assert re.findall(r"^  rft (\w+) ", out, re.MULTILINE)[:4] == ["train", "check", "sweep", "evaluate"]
    assert rft("-h") == (0, out, "")
    assert rft() == (2, out, "")


def test_version(rft: Rft) -> None:
    assert rft("--version") == (0, f"rft {__version__}\n", "")


def test_an_unknown_command(rft: Rft) -> None:
    code, out, err = rft("trian")
    assert (code, out) == (2, "")
    assert err.startswith(
        "rft: unknown command 'trian'; did you mean train? There are: train, check, sweep, evaluate, "
    )
    assert "\n\nusage: rft <command>" in err


def test_a_failure_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(words: list[str]) -> int:
        error = LearnError("the learner is gone")
        error.add_note("to go on from step 6: rft train resume=runs/x")
        raise error

    assert guarded(fail, []) == 1
    assert capsys.readouterr().err == "rft: the learner is gone\nto go on from step 6: rft train resume=runs/x\n"


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_help_of_a_command_names_presets_and_keys(rft: Rft, command: str) -> None:
    code, out, err = rft(command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"rft {command}: ")
    for key in ("sampler.max_completion_tokens=256", "sampler.stall_timeout_s=300.0", "grading.max_fault_share=0.1"):
        assert f"\n  {key} " in out
    for presets in ("data         chain_sum, gsm8k", "sampler      fake, transformers, vllm"):
        assert f"\n  {presets}\n" in out


def test_help_of_sample(rft: Rft) -> None:
    code, out, _ = rft("sample", "--help")
    assert code == 0
    assert out.startswith("usage: rft sample [-h]")


def test_help_of_grade(rft: Rft) -> None:
    code, out, err = rft("grade", "--help")
    assert (code, err) == (0, "")
    assert out.startswith("rft grade: ")
    assert "\n  grading.max_fault_share=1.0 " in out


def test_help_of_a_sweep_has_its_own_keys_and_those_of_its_trials(rft: Rft) -> None:
    code, out, err = rft("sweep", "--help")
    assert (code, err) == (0, "")
    for line in ("sweep        lora_optuna, lr_optuna", "sweep.trials=20", "experiment   gsm8k", "loop.steps=100"):
        assert f"\n  {line}" in out


def test_one_key_of_the_configuration(rft: Rft) -> None:
    assert rft("config", "loop.steps") == (
        0,
        "rft train:\n\n  loop.steps=100                                  int >= 1\n      Optimizer steps.\n",
        "",
    )
    assert rft("config", "loop.stepz") == (
        2,
        "",
        "rft: rft config:\n  - loop.stepz: there is no such key or section; did you mean loop.steps?\n",
    )
    assert rft("config", "--all")[0] == rft("config", "a", "b")[0] == 2
    assert "\n  loop            The training loop.\n" in rft("config")[1]


# Commands that must import nothing heavy, each in a process of its own.


def test_a_grading(tmp_path: Path) -> None:
    write_tasks(tmp_path / "done.jsonl", [{"prompt": "1 + 1 =", "answer": "2", "completion": "2"}])
    words = ["grade", "data=done.jsonl", "graders.correct.use=exact"]
    code, out, err = rft_alone(tmp_path, *words, "output_dir=out")
    assert (code, err) == (0, "")
    assert "\n  mean 1  sd 0  min 1  median 1  max 1  (n 1)\n" in out
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["config.yaml", "scores.jsonl", "summary.json"]
    code, out, err = rft_alone(tmp_path, *words, "dry_run=true", "output_dir=again")
    assert (code, err) == (0, "")
    assert out == (
        "the grading can start; it would be:\n"
        "  completions     1 of 1 prompts, from done.jsonl\n"
        "  output folder   again (free)\n"
        "  grader correct  1 for the reference, 0 for nothing (done.jsonl:1)\n"
    )


def test_a_grading_of_bad_lines(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"prompt": \n{"prompt": "a", "completion": "b"}\n{}\n')
    code, out, err = rft_alone(tmp_path, "grade", "data=bad.jsonl", "graders.correct.use=exact", "output_dir=out")
    assert (code, out) == (2, "")
    assert [line.split(": ")[0] for line in err.splitlines()[1:]] == ["  - bad.jsonl:1", "  - bad.jsonl:3"]
    assert [file.name for file in tmp_path.iterdir()] == ["bad.jsonl"]


def test_a_check(tmp_path: Path) -> None:
    words = ["experiment=quickstart", "output_dir=out"]
    both = ["check", *words, "then", "train", *words, "dry_run=true"]
    code, out, err = rft_alone(tmp_path, *both, imports="ray transformers")
    assert (code, err) == (0, "")
    out, of_dry_run = out.split("then:\n")
    assert of_dry_run == out
    title, *lines = out.splitlines()
    assert title == "the run can start; it would be:"
    told = dict(re.split("  +", line.strip(), maxsplit=1) for line in lines if re.match("  .+?  ", line))
    assert told["steps"] == "40 of 8 prompts x 8 completions = 64 completions"
    assert told["tasks"] == "2,000 train, 250 validation, 300 test"
    assert told["architecture"].startswith("Llama, 616 thousand weights (F32), whole")
    assert told["served"] == "merged into the base model"
    assert told["grader correct"].startswith("1 for the reference, 0 for nothing (embedded:chain_sum/train:1)")
    assert told["audit"] == "never audited"
    assert told["run folder"] == "out (free)"
    assert "not looked at:" in lines
    assert list(tmp_path.iterdir()) == []


def test_the_configuration_as_yaml(tmp_path: Path) -> None:
    code, out, err = rft_alone(tmp_path, "train", "--cfg", "job", "experiment=quickstart")
    assert (code, err) == (0, "")
    printed = yaml.safe_load(out)
    assert printed.keys() == RunConfig.model_fields.keys()
    assert printed["loop"].keys() == LoopConfig.model_fields.keys()
    assert printed["sampler"].keys() == VllmSamplerConfig.model_fields.keys()
    assert printed["learner"].keys() == GrpoLearnerConfig.model_fields.keys()
    assert (printed["loop"]["steps"], printed["loop"]["keep_checkpoints"]) == (40, 2)  # the experiment's, the default
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_configuration(tmp_path: Path) -> None:
    code, out, err = rft_alone(tmp_path, "train", "experiment=quickstart", "loop.setps=3", "seed=x", "sampler=vlm")
    assert (code, out) == (2, "")
    assert [line.split(";")[0] for line in err.splitlines()] == [
        "rft: configuration:",
        "  - sampler=vlm: there is no such preset (did you mean vllm?)",
        "  - seed=x: input should be a valid integer, unable to parse string as an integer",
        "  - loop.setps is unknown",
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_grid_is_refused_before_its_first_trial(rft: Rft) -> None:
    code, out, err = rft("train", "-m", "experiment=quickstart", "loop.steps=0,5", "loop.stepz=1")
    assert (code, out) == (2, "")
    assert err.splitlines()[:2] == [
        "rft: sweep, nothing was started:",
        "  - loop.steps=0: input should be greater than or equal to 1 (in trial 0 of 0 to 1)",
    ]
    assert err.splitlines()[2].startswith("  - loop.stepz is unknown")


def test_the_plan_of_a_grid(rft: Rft) -> None:
    code, out, err = rft("train", "-m", "experiment=quickstart", "dry_run=true", "loop.steps=4,5")
    assert (code, err) == (0, "")
    assert out.startswith("2 trials can start; the first would be:\n")


def test_a_search_is_refused_before_its_first_trial(rft: Rft) -> None:
    code, out, err = rft("sweep", "experiment=quickstart", "loop.steps=0,5", "learner.completions_per_micro_batch=5")
    assert (code, out) == (2, "")
    assert err.count("\n  - ") == 2
    assert rft("sweep", "--help")[0] == 0


# What is given can be wrong in many ways. Nothing is started, nothing is written.


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
    monkeypatch.setattr("rft.commands.train.ray_ahead_for", no_ray)
    monkeypatch.setattr("rft.commands.evaluate.ray_ahead_for", no_ray)
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
        f"data.train=trian.jsonl: no file at {tmp_path}/trian.jsonl; in the same folder there is train.jsonl"
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[1]\n", "bad.jsonl:1: not a JSON object but "),
        ('{"prompt": "a"}\n{"prompt": \n', "bad.jsonl:2: invalid JSON: Expecting value at column "),
        ('{"question": "a"}\n', 'bad.jsonl:1: neither "messages" nor "prompt"; it has: question (map one with data.'),
        ("\n", "data.train=bad.jsonl is empty: there is no task in it"),
        (
            '{"prompt": "a", "id": 1}\n{"prompt": "b", "id": 1}\n',
            'bad.jsonl:2: the id "1" is taken by bad.jsonl:1; give each row its own, or none',
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
        "1 of the 2 prompts of data.validation are in data.train too (validation.jsonl:2 = train.jsonl:4); take them "
        "out of one of the files, or set data.allow_overlap=true"
    ]


def test_more_prompts_per_step_than_tasks(wrong: Callable[..., list[str]]) -> None:
    assert wrong("loop.prompts_per_step=5") == [
        "loop.prompts_per_step=5: there are only 4 training tasks; lower it or give more tasks"
    ]


def test_prompts_that_are_too_long(wrong: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "rft.commands.train.ray_ahead_for", lambda _: nullcontext()
    )  # it starts while prompts are rendered
    # "0 + 1 =" is 7 characters and as many tokens; the template adds three.
    (found,) = wrong("model.max_context_tokens=30", "sampler.max_completion_tokens=21")
    assert found.startswith(
        "4 of 4 prompts are longer than 9 = 30 of context - sampler.max_completion_tokens=21 tokens"
    )
    assert found.endswith("with 10 tokens; lower sampler.max_completion_tokens, or take a model with more context")


def test_a_folder_that_is_no_model(wrong: Callable[..., list[str]], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert wrong("model.path=model") == [
        f"model.path=model: the folder {tmp_path}/model is no whole model: config.json is missing; "
        "weights are missing (*.safetensors)"
    ]


def test_a_model_that_is_not_on_this_machine(wrong: Callable[..., list[str]]) -> None:
    (found,) = wrong("model.path=no-such-owner/name")
    assert found.startswith("model.path=no-such-owner/name is neither a folder here nor a model that the Hugging Face")


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
        ("mien.py:grade", "there is no file mien.py (looked in "),
    ],
)
def test_a_bad_grader(wrong: Callable[..., list[str]], tmp_path: Path, use: str, problem: str) -> None:
    (tmp_path / "mine.py").write_text("\ndef grade(completion:\n    return 1\n")
    (found,) = wrong(f"graders.correct.use={use}")
    assert found.startswith(f"graders.correct.use: {problem}")


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
    (tmp_path / "out").mkdir()
    assert wrong("resume=out") == ["resume=out: there is no run in that folder (no config.yaml)"]


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
        "nowhere is neither a run folder nor an adapter folder: "
        "no adapter_config.json and no adapter_model.safetensors there"
    ]
    found = wrong("model.path=/nowhere/at/all", *words, command="evaluate")
    assert [problem.split(": ")[0] for problem in found] == ["model.path=/nowhere/at/all", "data.test=gone.jsonl"]


def test_a_sample_of_what_is_not_there(rft: Rft) -> None:
    code, out, err = rft("sample", "hello")
    assert (code, out) == (2, "")
    assert err == "rft: sample:\n  - give --adapter <run folder>, or --model <folder or hub id>, or both\n"
    code, _, err = rft("sample", "hello", "--model", "/nowhere/at/all")
    assert code == 2
    assert err == "rft: base model:\n  - model.path=/nowhere/at/all: there is no folder /nowhere/at/all\n"


def test_missing_files_are_named_with_mistakes_of_the_configuration(
    wrong: Callable[..., list[str]], tmp_path: Path
) -> None:
    found = wrong("loop.stepz=3", "name=../../x", "data.train=gone.jsonl", "data.test=gone", "model.path=/no/model")
    assert [problem.split(": ")[0] for problem in found] == [
        "name=../../x",
        "loop.stepz is unknown; did you mean loop.steps? Allowed in loop",
        "data.train=gone.jsonl",
        f"data.test=gone is no source of tasks, and no file is at {tmp_path}/gone; allowed",
        "model.path=/no/model",
    ]


# What ends a command from outside.


def test_a_reader_that_is_gone(tmp_path: Path) -> None:
    program = f"{sys.executable} -m rft.cli train --help | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.splitlines()[0].startswith("rft train: ")
    assert done.stdout.splitlines()[1] in ("0", "141")  # all of it fits into the pipe, or not
    assert done.stderr == ""


def test_ctrl_c_before_a_run_has_begun(rft: Rft, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rft.config.commands.load_training", interrupted)
    assert rft("train", "experiment=quickstart", "dry_run=true") == (130, "", "rft: interrupted\n")


def test_a_word_that_is_no_text(rft: Rft) -> None:
    code, out, err = rft("train", "name=\udcff")
    assert (code, out) == (2, "")
    assert err == "rft: not valid UTF-8 on the command line: 'name=\\udcff'\n"
