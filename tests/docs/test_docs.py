"""Every code block and command of README.md and docs/ does what it is shown to do, or is listed with the reason.

Commands that train end at their plan (`dry_run=true`).
"""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from rft.cli import main
from rft.config.commands import load_training
from rft.config.overrides import to_words
from rft.config.schema import GradingConfig
from rft.config.store import StoreConfig
from rft.data.rendering import FittingTasks, Renderer, Tell, fit_context
from rft.data.splits import TaskSets, load_task_sets
from rft.grading import LoadedGrader, load_grader
from rft.run.inputs.grader_samples import sample_rows
from rft.types import Task

from .blocks import ROOT, Command, read_blocks, read_commands

NEEDS_ITS_PLACE = "its machines, or its storage, are not here"
TAKES_MINUTES = "takes minutes; only that the script is there is checked"
RUN_ELSEWHERE = "needs a run; tests/e2e/test_train.py runs the line of README.md"
NOT_RUN = {
    "rft sample --adapter": RUN_ELSEWHERE,
    "rft view": "needs runs; tests/evidence/test_viewer.py has one",
    "rft benchmark": "needs lm-evaluation-harness and a run",
    "rft compare": "needs runs; tests/evidence/test_compared.py has some",
    "python -m vllm": "a server that runs until it is stopped; tests/e2e/test_server.py starts one",
    "rft feasibility": "takes hundreds of samples; tests/api/test_feasibility.py runs it",
    "rft data": "needs task files; tests/commands/test_data.py has some",
    "rft index": "needs passages; tests/retrieval/test_index.py makes and checks an index of some",
    "rft train retrieval=": "needs an index; tests/run/test_retrieval.py has one",
    "rft train tools.search.index=": "needs an index; tests/episodes/tools/test_search.py has one",
    "rft evaluate adapter=": RUN_ELSEWHERE,
    "rft certify": "needs a run; tests/evidence/test_certificate.py signs one",
    "rft verify": "needs a certificate; tests/evidence/test_certificate.py checks some",
    "rft export": "needs a result; tests/commands/test_export.py exports some",
    "rft merge adapter=": "needs an adapter; tests/commands/test_merge.py merges some",
    "rft train experiment=quickstart storage=s3:": "needs a bucket; tests/e2e/test_storage.py has one of its own",
    "rft train resume=": "needs a run; tests/e2e/test_train.py resumes one",
    "rft train experiment=quickstart start=": "needs a run; tests/e2e/test_start.py starts from one",
    "rft train -m experiment=quickstart start=null": "needs a run; tests/e2e/test_start.py starts from one",
    "rft train experiment=quickstart learner=sft": "needs demonstrations; tests/e2e/test_sft.py has some",
    "rft train experiment=quickstart learner=distill": "needs a teacher; tests/e2e/test_distill.py makes one",
    "rft train experiment=quickstart learner=dpo learner.pairs=recorded": "needs pairs; tests/data has some",
    "rft train experiment=quickstart learner=kto learner.completions=recorded": "needs labelled rows",
    "rft train experiment=quickstart model.path=merged": "needs a merged model",
    "rft play": "loads vLLM; tests/api/test_play.py plays",
    "rft doctor": "starts Ray and vLLM; tests/doctor/test_trials.py starts them",
    "rft serve-grader": "does not end; tests/commands/test_serve_grader.py runs it",
    "curl localhost:8000/grade": "needs that service; tests/commands/test_serve_grader.py asks it",
    "rft sweep resume=": "needs a search; tests/sweep/test_grid.py resumes one",
    "rft pairs": "needs a run; tests/commands/test_pairs.py reads one",
    "rft pipeline resume=": "needs a pipeline; tests/pipeline/test_runner.py resumes some",
    "rft continue run=": "needs a run; tests/config/test_continued_run.py continues one",
    "rft checkpoints": "needs a run; tests/commands/test_checkpoints.py lists some",
    "rft status": "needs a run; tests/commands/test_status.py reads some",
    "python benchmarks/": TAKES_MINUTES,
    "make": "runs this test, too; that the target is there is checked",
    "ray start": NEEDS_ITS_PLACE,
    "ray job submit": NEEDS_ITS_PLACE,
    "sbatch": NEEDS_ITS_PLACE,
    "kubectl": NEEDS_ITS_PLACE,
}
"""How a command begins that is not run here, and why."""
ONLY_COMPOSED = {
    "gsm8k_qwen2_5_0_5b": "its model and tasks are on the hub",
    "model.path=Qwen/": "its model is on the hub",
    "model.path=package:": "its package is not installed",
    "cluster=attach": "needs a cluster",
    "data.mixture.gcd.older=true": "its tasks are those of data=families, which docs/data.md plans",
}
"""Part of a training command that is checked as far as its configuration, and why."""
ONLY_COMPILED = {
    "task = json.load(sys.stdin)": "an agent in an episode; tests/episodes/endpoint/ plays some",
    "class OwnWords(": "needs smolagents",
    "GRPOTrainer(...": "it trains; tests/grading/outbound/test_export.py does so",
    'rft.train("experiment=quickstart", "loop.steps=20")': "it trains, as tests/api/test_train.py does",
    'rft.run_pipeline("experiment=sft_then_grpo"': "it trains, as tests/pipeline/test_python.py does",
    "async with rft.parts(": "it trains; tests/api/test_parts.py runs it with fakes, tests/e2e/test_python.py for real",
}
"""Part of a Python block that is not executed, and why."""
EXIT_CODES = {"graders.main.use=my_graders.py:names_it": 1}
"""Part of a command whose exit code is not 0: an audit of a grader that fails it."""


def shown_preset(start: str) -> str:
    """The block of docs/configuration.md that begins so."""
    return next(block.text for block in BLOCKS if "configuration.md" in block.file and block.text.startswith(start))


PLACEHOLDERS = {"...": ("model.path=embedded:tiny", "data.train=tasks.jsonl", "graders.correct.use=exact")}
"""What stands for the words that an example leaves out."""

BLOCKS = read_blocks()
COMMANDS = read_commands()
PRESETS = {
    "mine/experiment/mine.yaml": shown_preset("# @package _global_"),
    "mine/graders/strict.yaml": shown_preset("correct:"),
}
"""The presets that docs/configuration.md shows, and where it says that they are saved."""


def not_run(command: Command) -> str | None:
    """The entry of NOT_RUN that a command falls under."""
    return next((start for start in NOT_RUN if " ".join(command.words).startswith(start)), None)


RUN = [command for command in COMMANDS if not_run(command) is None]


def in_language(language: str) -> list[pytest.ParameterSet]:
    return [pytest.param(block.text, id=f"{block.file}:{block.line}") for block in BLOCKS if block.language == language]


SAMPLES: dict[str, dict[str, str]] = {}
TASK_SETS: dict[str, TaskSets] = {}
FITTING: dict[tuple[object, ...], FittingTasks] = {}


def read_once(**given: Any) -> TaskSets:
    """`load_task_sets`, which reads what comes with rft once for all commands."""
    sources = [given[split] for split in ("train", "validation", "test")]
    if not all(source is None or source.startswith("embedded:") for source in sources):
        return load_task_sets(**given)
    key = repr(sorted(given.items()))
    if key not in TASK_SETS:
        TASK_SETS[key] = load_task_sets(**given)
    return TASK_SETS[key]


def fitted_once(tasks: list[Task], renderer: Renderer, *, tell: Tell | None, **limits: Any) -> FittingTasks:
    """`fit_context`, which renders the tasks of `read_once` once for each template and limit."""
    if not any(tasks is split for read in TASK_SETS.values() for split in (read.train, read.validation, read.test)):
        return fit_context(tasks, renderer, tell=tell, **limits)
    key = id(tasks), renderer.template_sha256, *sorted(limits.items())
    if key not in FITTING:
        FITTING[key] = fit_context(tasks, renderer, tell=tell, **limits)
    return FITTING[key]


def sampled_once(graders: Sequence[LoadedGrader], tasks: Sequence[Task], grading: GradingConfig) -> dict[str, str]:
    """`sample_rows`, once for all commands with the same graders, tasks and limits, without a process for each."""
    key = repr(([(one.name, one.sha256, one.entry) for one in graders], tasks, grading))
    if key not in SAMPLES:
        SAMPLES[key] = sample_rows([replace(one, in_process=True) for one in graders], tasks, grading)
    return SAMPLES[key]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reward_model: Path) -> Path:
    """The folder of somebody who follows a page: tasks, completions, a reward model, and graders of another system."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRADER_KEY", "key-of-the-test")
    monkeypatch.setattr("rft.auditing.probes.cost.STALL_S", 60.0)  # on a busy machine the event loop is late by itself
    monkeypatch.setattr("rft.run.check.sample_rows", sampled_once)
    monkeypatch.setattr("rft.auditing.audit_panel._in_worker", lambda grader: replace(grader, in_process=True))
    monkeypatch.setattr("rft.run.inputs.task_sets.load_task_sets", read_once)
    monkeypatch.setattr("rft.run.inputs.fitting.fit_context", fitted_once)
    rows = [{"prompt": f"What is {number} + 5?", "answer": str(number + 5)} for number in range(30)]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    completed = [row | {"completion": row["answer"]} for row in rows]
    (tmp_path / "completions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in completed))
    (tmp_path / "my_reward_model").symlink_to(reward_model)
    (tmp_path / "their_rewards.py").write_text(
        "def accuracy_reward(prompts, completions, answer, **columns):\n"
        "    return [float(one == other) for one, other in zip(completions, answer)]\n"
    )
    of_openai = next(block.text for block in BLOCKS if block.language == "json" and '"grader"' in block.text)
    (tmp_path / "grader.json").write_text(of_openai)
    numbers = "".join(json.dumps({"secret": number}) + "\n" for number in range(1, 32))
    (tmp_path / "numbers.jsonl").write_text(numbers)
    environment = next(block for block in BLOCKS if block.text.startswith("# my_env.py"))
    (tmp_path / "my_env.py").write_text(environment.text)
    agent = next(block for block in BLOCKS if block.file.endswith("agents.md") and block.language == "python")
    (tmp_path / "agent.py").write_text(agent.text)
    (tmp_path / "their_env.py").write_text("def frozen_lake(): ...")
    sums = next(block for block in BLOCKS if block.text.startswith('{"prompt": "State the final answer'))
    (tmp_path / "sums.jsonl").write_text(sums.text)
    tools = next(block for block in BLOCKS if block.text.startswith("# my_tools.py"))
    (tmp_path / "my_tools.py").write_text(tools.text)
    sink = next(block.text for block in BLOCKS if block.file.endswith("sinks.md") and block.language == "python")
    (tmp_path / "my_sinks.py").write_text(sink)
    for file, preset in PRESETS.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(preset)
    return tmp_path


def write_graders(folder: Path, file: str) -> None:
    """All graders that a page shows, in the file that it calls them by."""
    graders = [block.text for block in BLOCKS if (block.file, block.language) == (file, "python")]
    written = [text for text in graders if not any(part in text for part in ONLY_COMPILED)]
    (folder / "my_graders.py").write_text("\n\n".join(written))


def words_of(command: Command) -> list[str]:
    """What follows `rft`, with nothing left out."""
    return [other for word in command.words[1:] for other in PLACEHOLDERS.get(word, (word,))]


def call(command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Run `rft` in this process; its exit code and what it says of a failure."""
    name, *words = words_of(command)
    is_refused = command.output and command.output[0].startswith("rft: ")
    ends_at_plan = name in ("train", "sweep", "pipeline", "evaluate") and not is_refused and "--help" not in words
    monkeypatch.setattr(sys, "argv", ["rft"])
    with pytest.raises(SystemExit) as caught:
        main([name, *words, *(["dry_run=true"] if ends_at_plan else [])])
    assert isinstance(caught.value.code, int)
    said = capsys.readouterr()
    return caught.value.code, said.err


@pytest.mark.parametrize("command", [each for each in RUN if each.words[0] == "rft"], ids=str)
def test_a_command(
    command: Command, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_graders(folder, command.file)
    line = " ".join(command.words)
    if any(part in line for part in ONLY_COMPOSED):
        load_training(words_of(command)[1:])
        return
    code, said = call(command, capsys, monkeypatch)
    if command.output and command.output[0].startswith("rft: "):
        assert code == 2
        shown = "\n".join(command.output).strip()
        pattern = ".*".join(re.escape(part) for part in re.split(r"\.\.\.$", shown, flags=re.MULTILINE))
        assert re.fullmatch(pattern, said.strip())
    else:
        expected = next((code for part, code in EXIT_CODES.items() if part in line), 0)
        assert code == expected, said


def test_python_on_the_command_line() -> None:
    commands = [each for each in RUN if each.words[0] == "python"]
    assert commands
    for command in commands:
        subprocess.run([sys.executable, *command.words[1:]], check=True, capture_output=True, timeout=120)


def test_scripts_and_targets_are_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for command in COMMANDS:
        if command.words[0] == "make":
            assert {word for word in command.words[1:] if "=" not in word} <= targets, command
        if command.words[0] in ("python", "sbatch"):
            files = [word for word in command.words[1:] if word.endswith((".py", ".sbatch"))]
            assert all((ROOT / file).is_file() for file in files), command


@pytest.mark.parametrize("text", in_language("python"))
def test_python(text: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(text)
    compile(text, program, "exec")
    if not any(part in text for part in ONLY_COMPILED):
        runpy.run_path(str(program))


@pytest.mark.parametrize("text", in_language("json"))
def test_json(text: str, folder: Path) -> None:
    if '"grader"' in text:
        assert load_grader("g", {"openai": "grader.json"}).name == "g"
        return
    for line in text.splitlines():
        assert {"messages", "prompt", "preferred_output"} & json.loads(line).keys()


@pytest.mark.parametrize("text", in_language("yaml"))
def test_yaml(text: str, folder: Path) -> None:
    [(key, content)] = yaml.safe_load(text).items()
    if key == "mixture":  # a preset of data
        entries = {grader: {"use": "exact"} for family in content.values() for grader in family["graders"]}
        words = to_words([{"model.path": "embedded:tiny", "data": {key: content}, "graders": entries}])
        run = load_training([*words, "logging=none"], "run")
        assert list(run.data.mixture) == list(content)
        return
    if key == "tools":
        words = to_words([{"experiment": "quickstart", key: content}])
        assert list(load_training([*words, "logging=none"], "run").tools) == list(content)
        return
    if key == "retrieval":
        StoreConfig.model_validate({key: {"kind": "mongodb"} | content})
        return
    assert key == "graders"
    for name, grader in content.items():
        assert load_grader(name, grader).name == name


def test_the_lists_name_nothing_that_is_gone() -> None:
    lines = [" ".join(command.words) for command in COMMANDS]
    python = [block.text for block in BLOCKS if block.language == "python"]
    gone = [start for start in NOT_RUN if not any(line.startswith(start) for line in lines)]
    gone += [part for part in (*ONLY_COMPOSED, *EXIT_CODES) if not any(part in line for line in lines)]
    gone += [part for part in ONLY_COMPILED if not any(part in text for text in python)]
    assert gone == []


def test_no_block_is_overlooked() -> None:
    assert {block.language for block in BLOCKS} == {"", "python", "json", "yaml", "sql"}
