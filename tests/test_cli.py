"""`rft` as it is typed: help, plans, imports, and interruptions."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from rft import __version__
from rft.commands.guard import guarded
from rft.config.learners.grpo import GrpoLearnerConfig
from rft.config.samplers.vllm import VllmSamplerConfig
from rft.config.schema import LoopConfig, RunConfig
from rft.errors import LearnError, RayLost

# A command in a process of its own, which prints last what it imported.
PROGRAM = """
import sys
from rft.cli import main
try:
    main(sys.argv[1:])
finally:
    heavy = ("torch", "ray", "vllm", "trl", "transformers", "peft", "datasets", "accelerate")
    print("imported:", *(name for name in heavy if name in sys.modules), file=sys.stderr)
"""

Rft = Callable[..., tuple[int, str, str]]


def rft_alone(folder: Path, *words: str, imports: str = "") -> tuple[int, str, str]:
    """The same in a process of its own, without anything heavy imported but `imports`."""
    # The first import of a library compiles it, and may warn of its syntax.
    python = [sys.executable, "-W", "ignore::SyntaxWarning"]
    done = subprocess.run([*python, "-c", PROGRAM, *words], capture_output=True, text=True, cwd=folder)
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
    assert err.startswith("rft: unknown command 'trian'; did you mean train? Commands: train, check, sweep, evaluate, ")
    assert "\n\nusage: rft <command>" in err


def test_a_failure_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(words: list[str]) -> int:
        error = LearnError("the learner is gone")
        error.add_note("to continue from step 6: rft train resume=runs/x")
        raise error

    assert guarded(fail, []) == 1
    assert capsys.readouterr().err == "rft: the learner is gone\nto continue from step 6: rft train resume=runs/x\n"


def test_after_the_loss_of_ray_the_process_ends_without_ray(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[int] = []
    monkeypatch.setattr("os._exit", codes.append)

    def fail(words: list[str]) -> int:
        raise RayLost("the raylet has ended")

    guarded(fail, [])
    assert codes == [69]
    assert capsys.readouterr().err == "rft: the raylet has ended\n"


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_help_of_a_command_names_presets_and_keys(rft: Rft, command: str) -> None:
    code, out, err = rft(command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"rft {command}: ")
    for key in ("sampler.max_completion_tokens=256", "sampler.stall_timeout_s=300.0", "grading.max_fault_share=0.1"):
        assert f"\n  {key} " in out
    samplers = "fake, server, sglang_server, transformers, vllm"
    assert f"\n  sampler      {samplers}\n" in out
    assert re.search(r"\n  data         chain_sum, (\w+, )*gsm8k\b", out)


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
    for line in (
        "sweep        lora_optuna, lr_optuna",
        "sweep.trials=20",
        "experiment   calculator, ",
        "loop.steps=100",
    ):
        assert f"\n  {line}" in out


def test_one_key_of_the_configuration(rft: Rft) -> None:
    assert rft("config", "loop.steps") == (
        0,
        "rft train, rft feasibility:\n\n"
        "  loop.steps=100                                  int >= 1\n      Optimizer steps.\n",
        "",
    )
    assert rft("config", "loop.stepz") == (
        2,
        "",
        "rft: rft config:\n  - loop.stepz: no such key or section; did you mean loop.steps?\n",
    )
    assert rft("config", "loop.steps=3") == (
        2,
        "",
        "rft: rft config:\n"
        "  - loop.steps=3: rft config explains keys and takes no values; write rft config loop.steps\n",
    )
    assert rft("config", "--all")[0] == rft("config", "a", "b")[0] == 2
    assert "\n  loop            The training loop.\n" in rft("config")[1]


# Commands that must import nothing heavy run in a process of their own; it takes a second.


def test_a_grading(tmp_path: Path, rft: Rft) -> None:
    (tmp_path / "done.jsonl").write_text('{"prompt": "1 + 1 =", "answer": "2", "completion": "2"}\n')
    words = ["grade", "data=done.jsonl", "graders.correct.use=exact"]
    code, out, err = rft_alone(tmp_path, *words, "output_dir=out")
    assert (code, err) == (0, "")
    assert "\n  mean 1  sd 0  min 1  median 1  max 1  (n 1)\n" in out
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["config.yaml", "scores.jsonl", "summary.json"]
    code, out, err = rft(*words, "dry_run=true", "output_dir=again")
    assert (code, err) == (0, "")
    assert out == (
        "the grading can start with these settings:\n"
        "  completions     1 of 1 prompt, from done.jsonl\n"
        "  output folder   again (free)\n"
        "  grader correct  1 for the reference, 0 for nothing (done.jsonl:1)\n"
    )


def test_a_grading_of_bad_lines(tmp_path: Path, rft: Rft) -> None:
    (tmp_path / "bad.jsonl").write_text('{"prompt": \n{"prompt": "a", "completion": "b"}\n{}\n')
    code, out, err = rft("grade", "data=bad.jsonl", "graders.correct.use=exact", "output_dir=out")
    assert (code, out) == (2, "")
    assert [line.split(": ")[0] for line in err.splitlines()[1:]] == ["  - bad.jsonl:1", "  - bad.jsonl:3"]
    assert [file.name for file in tmp_path.iterdir()] == ["bad.jsonl"]


def without_progress(out: str) -> list[str]:
    """The lines of an output without those of progress, which a busy machine prints every 20 seconds."""
    return [line for line in out.splitlines() if not line.startswith("checking prompts:")]


def test_a_check(tmp_path: Path, rft: Rft) -> None:
    rows = [{"prompt": f"{number} + 1 =", "answer": str(number + 1)} for number in range(20)]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # A grader of the standard library: reasoning-gym takes seconds. So do all tasks of the experiment.
    words = ["experiment=quickstart", "data.train=tasks.jsonl", "data.validation=null", "data.test=null"]
    words += ["data.validation_share=0.2", "graders.correct.use=exact", "output_dir=out"]
    code, out, err = rft_alone(tmp_path, "check", *words, imports="transformers")
    assert (code, err) == (0, "")
    title, *lines = without_progress(out)
    code, of_dry_run, err = rft("train", *words, "dry_run=true")
    assert (code, err, without_progress(of_dry_run)) == (0, "", [title, *lines])
    assert title == "the run can start with these settings:"
    told = dict(re.split("  +", line.strip(), maxsplit=1) for line in lines if re.match("  .+?  ", line))
    assert told["steps"] == "40 of 8 prompts x 8 completions = 64 completions"
    assert told["tasks"] == "16 train, 4 validation"
    assert told["architecture"].startswith("Llama, 616 thousand weights (F32), whole")
    assert told["served"] == "merged into the base model"
    assert told["grader correct"].startswith("1 for the reference, 0 for nothing (tasks.jsonl:")
    assert told["audit"] == "never audited"
    assert told["run folder"] == "out (free)"
    assert "not checked:" in lines
    assert [file.name for file in tmp_path.iterdir()] == ["tasks.jsonl"]


def test_the_configuration_as_yaml(tmp_path: Path, rft: Rft) -> None:
    code, out, err = rft("train", "--cfg", "job", "experiment=quickstart")
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
        "  - sampler=vlm: unknown preset (did you mean vllm?)",
        "  - seed=x: should be a whole number",
        "  - loop.setps is unknown",
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_grid_is_refused_before_its_first_trial(rft: Rft) -> None:
    code, out, err = rft("train", "-m", "experiment=quickstart", "loop.steps=0,5", "loop.stepz=1")
    assert (code, out) == (2, "")
    assert err.splitlines()[:2] == [
        "rft: sweep not started:",
        "  - loop.steps=0: should be at least 1 (in trial 0 of 0 to 1)",
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

    monkeypatch.setattr("rft.commands.train.load_training", interrupted)
    assert rft("train", "experiment=quickstart", "dry_run=true") == (130, "", "rft: interrupted\n")


def test_a_word_that_is_no_text(rft: Rft) -> None:
    code, out, err = rft("train", "name=\udcff")
    assert (code, out) == (2, "")
    assert err == "rft: the command line is not valid UTF-8: 'name=\\udcff'\n"
