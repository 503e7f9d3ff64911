"""What may come next on a command line, and the scripts that shells ask with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rft.cli import main
from rft.commands import COMMANDS
from rft.config.completion import SCRIPTS, candidates


def complete(*words: str) -> list[str]:
    return candidates(words, {command.name: command.parser for command in COMMANDS})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tr"], ["train"]),
        (["s"], ["sweep", "sample", "serve-grader", "status"]),
        (["train", "--c"], ["--config-dir", "--cfg"]),
        (["train", "lo"], ["loop.", "logging.", "logging="]),
        (["train", "loop.st"], ["loop.steps=", "loop.staleness=", "loop.stop_timeout_s="]),
        (["train", "++loop.st"], ["++loop.steps=", "++loop.staleness=", "++loop.stop_timeout_s="]),
        (
            ["train", "sampler="],
            ["sampler=fake", "sampler=server", "sampler=sglang_server", "sampler=transformers", "sampler=vllm"],
        ),
        (["train", "experiment=q"], ["experiment=quickstart"]),
        (["train", "audit="], ["audit=refuse", "audit=warn", "audit=off"]),
        (["train", "dry_run="], ["dry_run=true", "dry_run=false"]),
        (["train", "evaluation.every_steps="], ["evaluation.every_steps=null"]),
        (["train", "graders.correct.use=num"], ["graders.correct.use=numeric"]),
        (["train", "graders.correct.w"], ["graders.correct.weight="]),
        (["train", "graders.a.use=numeric", "graders.a.tol"], ["graders.a.tolerance="]),
        (["train", "gra"], ["grading.", "graders."]),
        (["sweep", "sweep=l"], ["sweep=lora_optuna", "sweep=lr_optuna"]),
        (["sweep", "loop.prompts"], ["loop.prompts_per_step="]),
        (["grade", "da"], ["data.", "data="]),
        (["evaluate", "exp"], []),
        (["serve-grader", "po"], ["port="]),
        (["check", "loop.st"], ["loop.steps=", "loop.staleness=", "loop.stop_timeout_s="]),
        (["config", "loop.pass_rate.m"], ["loop.pass_rate.min", "loop.pass_rate.max"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["doctor", "--q"], ["--quick"]),
        (["sample", "--ch"], ["--chat-template", "--chat-template-kwargs"]),
        (["nonsense", "x"], []),
    ],
)
def test_what_may_come_next(
    words: list[str], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert complete(*words) == expected


def test_files_and_presets_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine/experiment").mkdir(parents=True)
    (tmp_path / "mine/experiment/own.yaml").touch()
    (tmp_path / "tasks.jsonl").touch()
    (tmp_path / ".hidden").touch()
    files = ["data.train=mine/", "data.train=tasks.jsonl"]
    assert complete("train", "data.train=") == ["data.train=null", *files]
    assert complete("train", "data.train=mine/e") == ["data.train=mine/experiment/"]
    assert complete("train", "--config-dir", "") == ["mine/"]
    assert complete("train", "--config-dir", "mine", "experiment=ow") == ["experiment=own"]
    assert complete("sample", "ta") == ["tasks.jsonl"]


def test_bash_completes_what_stands_before_the_cursor(tmp_path: Path) -> None:
    """Bash itself, with `rft` as a function that calls this Python."""
    (tmp_path / "completion.bash").write_text(SCRIPTS["bash"])
    program = f"""
rft() {{ {sys.executable} -m rft.cli "$@"; }}
source completion.bash
compopt() {{ :; }}
complete -p rft
for line in "rft train loop.st" "rft train --config-dir . audit="; do
    COMP_LINE=$line COMP_POINT=${{#line}} COMPREPLY=()
    _rft
    echo "${{COMPREPLY[*]}}"
done
"""
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.splitlines() == [
        "complete -F _rft rft",
        "loop.steps= loop.staleness= loop.stop_timeout_s=",
        "refuse warn off",
    ]


def test_each_shell_has_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    for shell, script in SCRIPTS.items():
        with pytest.raises(SystemExit):
            main(["completion", shell])
        assert capsys.readouterr().out == script
        for opening, closing in ("{}", "()", "[]"):
            assert script.count(opening) == script.count(closing)
        assert "rft completion --candidates" in script


def test_without_a_shell_it_says_how_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["completion"])
    assert caught.value.code == 2
    assert "rft completion fish | source" in capsys.readouterr().err
