"""Presets of the user's own: found below `--config-dir`, and refused in one line where something is wrong with them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import hydra
import pytest
from omegaconf import OmegaConf

from rft.config import compose as composing
from rft.config.command_line import Line, read_line
from rft.config.commands import load_evaluation, load_grading, load_training
from rft.config.compose import compose, initialized, usable_overrides
from rft.config.grid import read_grid
from rft.config.presets import conf_dir
from rft.config.search import Between, read_search
from rft.errors import ConfigError

HEAD = "# @package _global_\n"
COMPLETE = (
    f"{HEAD}defaults:\n  - override /data: chain_sum\n"
    "name: mine\nmodel: {path: embedded:tiny}\nloop: {steps: 7}\ngraders: {correct: {use: reasoning_gym}}\n"
)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Write `mine/<file>` into the working directory, which is empty otherwise."""
    monkeypatch.chdir(tmp_path)

    def write(file: str, text: str) -> None:
        path = tmp_path / "mine" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return write


def words(*given: str, command: str = "rft train") -> list[str]:
    return read_line(["--config-dir", "mine", *given], command).words


def problems(*given: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_training(words(*given))
    return list(caught.value.problems)


def test_an_experiment_of_ones_own(mine: Callable[[str, str], None]) -> None:
    mine("experiment/mine.yaml", COMPLETE)
    run = load_training(words("experiment=mine", "seed=3"))
    assert (run.name, run.loop.steps, run.seed, run.data.train) == ("mine", 7, 3, "embedded:chain_sum/train")


def test_an_experiment_that_builds_on_another(mine: Callable[[str, str], None]) -> None:
    mine("experiment/mine.yaml", f"{HEAD}defaults: [quickstart, _self_]\nname: mine\n")
    run = load_training(words("experiment=mine"))
    assert (run.name, run.loop.steps, run.model.path) == ("mine", 40, "embedded:tiny")


def test_presets_of_sections_that_have_none_of_rfts(mine: Callable[[str, str], None]) -> None:
    mine("graders/strict.yaml", "correct: {use: exact, weight: 2}\n")
    mine("loop/short.yaml", "steps: 3\n")
    run = load_training(words("experiment=quickstart", "graders=strict", "loop=short"))
    assert (run.graders["correct"], run.loop.steps) == ({"use": "exact", "weight": 2}, 3)
    graded = load_grading(words("data=x.jsonl", "graders=strict", command="rft grade"))
    assert graded.graders["correct"]["weight"] == 2


def test_presets_in_a_grid_and_a_search(mine: Callable[[str, str], None]) -> None:
    mine("experiment/mine.yaml", COMPLETE)
    mine("sweep/wide.yaml", "space: {learner: {learning_rate: 'interval(0.1, 0.2)'}}\n")
    grid = read_grid(["-m", "--config-dir", "mine", "experiment=mine", "seed=0,1"])
    assert [load_training(trial).loop.steps for trial in grid.trials] == [7, 7]
    search = read_search(words("sweep=wide", "experiment=mine", command="rft sweep"))
    assert search.space == {"learner.learning_rate": Between(low=0.1, high=0.2)}
    assert load_training(search.overrides({"learner.learning_rate": "0.1"})).loop.steps == 7


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name: mine\n", "mine.yaml: its first line must be `# @package _global_`, "),
        (
            "# My preset.\n# @package _global_\nname: mine\n",
            "mine.yaml: its first line must be `# @package _global_`, ",
        ),
        ("# @package _global_ of mine\nname: mine\n", "mine.yaml: its first line must be `# @package _global_`, "),
        (f"{HEAD}loop: [\n", "mine.yaml:3: invalid YAML: "),
        (f"{HEAD}loop:\n\tsteps: 3\n", "mine.yaml:3: invalid YAML: "),
        (f"{HEAD}name: a\nname: b\n", "mine.yaml:3: invalid YAML: found duplicate key name"),
        (f"{HEAD}name: a\0b\n", "mine.yaml: invalid YAML: special characters are not allowed"),
        (f"{HEAD}- a\n", "experiment/mine': "),
        (f"{HEAD}defaults: 3\n", "experiment/mine"),
        (
            f"{HEAD}defaults: [override /data: chain_som]\n",
            "data=chain_som: unknown preset (did you mean chain",
        ),
        (f"{HEAD}defaults: [nope]\n", "experiment=nope: unknown preset"),
        (f"{HEAD}defaults: [override /dta: gsm8k]\n", "Could not override 'dta'"),
        (f"{HEAD}defaults: [/data: gsm8k]\n", "Multiple values for data"),
        (f"{HEAD}defaults: [mine]\n", "a preset's defaults refer to the preset itself"),
        (f"{HEAD}hydra: 3\n", "experiment/mine': "),
        (f"{HEAD}model: {{path: '${{oc.env:NOPE_NOT_SET}}'}}\n", "model.path: KeyError raised while resolving"),
    ],
)
def test_what_is_wrong_with_a_preset(mine: Callable[[str, str], None], text: str, problem: str) -> None:
    mine("experiment/mine.yaml", text)
    found = problems("experiment=mine")
    assert problem in found[0]
    assert "\n" not in found[0] and "search path" not in found[0]


def test_bytes_that_are_no_text(mine: Callable[[str, str], None], tmp_path: Path) -> None:
    mine("experiment/mine.yaml", "")
    (tmp_path / "mine/experiment/mine.yaml").write_bytes(b"\xff\xfe")
    assert "mine/experiment/mine.yaml cannot be read: 'utf-8' codec" in problems("experiment=mine")[0]


def test_a_preset_that_is_not_searched_for_is_found(mine: Callable[[str, str], None]) -> None:
    mine("experiment/mine.yaml", COMPLETE)
    with pytest.raises(ConfigError) as caught:
        load_training(["experiment=mine"])
    (problem,) = caught.value.problems
    assert problem.startswith("experiment=mine: unknown preset; available: calculator, ")
    assert problem.endswith("; for mine/experiment/mine.yaml write --config-dir mine experiment=mine")


def test_a_preset_of_another_command(mine: Callable[[str, str], None]) -> None:
    mine("experiment/mine.yaml", COMPLETE)
    with pytest.raises(ConfigError) as caught:
        load_evaluation(words("experiment=mine", command="rft evaluate"))
    assert caught.value.problems[0] == (
        "experiment=mine: rft evaluate has no presets of experiment; rft train, rft pipeline, rft play and rft "
        "feasibility have; its groups: cluster, data, retrieval, sampler"
    )


@pytest.mark.parametrize("word", ["~learner=0", "~learner=[a]"])
def test_a_preset_taken_away_by_what_is_no_name(word: str) -> None:
    assert usable_overrides([word]) == ([], [f"{word}: write ~learner"])


# The words of a command line.


def test_options_and_overrides(tmp_path: Path) -> None:
    (tmp_path / "a 'b'").mkdir()
    folder = tmp_path / "a 'b'"
    line = read_line(["-c", "job", "seed=1", f"--config-dir={folder}", "-cd", str(tmp_path)], "rft train")
    assert line == Line(options=("--cfg", "job"), overrides=("seed=1",), folders=(folder, tmp_path))
    assert line.searched == [f"hydra.searchpath=['file://{tmp_path}/a \\'b\\'','file://{tmp_path}']"]
    assert read_line(["-m", "seed=1,2", "--multirun"], "rft train").is_grid
    assert not read_line(["-m", "--cfg=job"], "rft train").is_grid


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["--config-dri", "x"], "--config-dri: rft train has no such option; did you mean --config-dir? Its options: "),
        (
            ["--loop.steps=3"],
            "--loop.steps=3: rft train has no such option; write keys without dashes, as in loop.steps=3",
        ),
        (["--resume", "runs/x"], "--resume: rft train has no such option; write resume=<run folder>"),
        (["--resume=runs/x"], "--resume=runs/x: rft train has no such option; write resume=<run folder>"),
        (["--seed=3"], "--seed=3: rft train has no such option; write keys without dashes, as in seed=3"),
        (["-sc", "install=bash"], "-sc: use `rft completion bash`, "),
        (["--config-dir"], "--config-dir: the value is missing; write --config-dir <folder>"),
        (["--cfg"], "--cfg: the value is missing; write --cfg job|hydra|all"),
        (["--config-dir", "minee"], "--config-dir minee: no such folder ({}/minee); did you mean mine?"),
        (["--config-dir", "file"], "--config-dir file: this is a file ({}/file)"),
        (["--api_key=abc123secret"], "--api_key=<redacted>: rft train has no such option; "),
    ],
)
def test_wrong_options(given: list[str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as caught:
        read_line(given, "rft train")
    assert caught.value.problems[0].startswith(problem.format(tmp_path))


def test_values_stay_with_the_configuration_that_was_given_them() -> None:
    first = compose("train", ["learner=grpo", "++seed=7", "++graders.main={use: exact}"])
    second = compose("train", ["learner=grpo", "++graders.other.use=numeric"])
    assert (first.seed, first.graders) == (7, {"main": {"use": "exact"}})
    assert (second.seed, second.graders) == (0, {"other": {"use": "numeric"}})


def test_an_edited_preset_counts_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "conf"
    shutil.copytree(conf_dir(), folder)
    monkeypatch.setattr(composing, "conf_dir", lambda: folder)
    preset = folder / "experiment" / "mine.yaml"
    preset.write_text(f"{HEAD}seed: 1\n")
    assert compose("train", ["experiment=mine"]).seed == 1
    before = preset.stat().st_mtime_ns
    preset.write_text(f"{HEAD}seed: 2\n")
    os.utime(preset, ns=(before + 1, before + 1))
    assert compose("train", ["experiment=mine"]).seed == 2


@pytest.mark.parametrize(
    "words",
    [
        ["experiment=quickstart", "++loop.steps=3", "++learner.adapter.rank=4"],
        ["++sampler.temperature=0.5", "experiment=quickstart", "sampler=fake"],
        ["experiment=quickstart", "++data.columns={a: b}", "++graders.main.pattern='a, b'"],
        ["experiment=quickstart", "++name=${seed}", "++seed=1", "++seed=2"],
        ["experiment=quickstart", "~graders.correct", "++graders.correct.use=exact"],
    ],
)
def test_values_set_in_a_copy_equal_those_that_hydra_sets(words: list[str]) -> None:
    with initialized():
        by_hydra = hydra.compose("train", words)
    assert OmegaConf.to_container(compose("train", words)) == OmegaConf.to_container(by_hydra)
