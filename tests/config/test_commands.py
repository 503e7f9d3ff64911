"""The two ways from words to a run: resuming one, and Hydra's own options."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from rft.config.clusters import AttachClusterConfig
from rft.config.commands import load_training, with_hydra
from rft.config.resume import MAY_CHANGE_ON_RESUME
from rft.config.schema import RunConfig
from rft.errors import ConfigError, OutputError, UsageError

ALLOWED = (
    "dry_run, audit, storage, storage_timeout_s, loop.steps, loop.num_epochs, "
    "loop.checkpoint_every_steps, loop.keep_checkpoints, loop.notice, loop.stop_timeout_s, evaluation.*, logging.*, "
    "cluster.*"
)


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """The folder, with a space in its name, of a run of the quickstart with 20 steps and other graders."""
    folder = tmp_path / "a run"
    folder.mkdir()
    run = load_training(
        ["experiment=quickstart", "loop.steps=20", "~graders.correct", "graders.odd.use=exact"], str(folder)
    )
    (folder / "config.yaml").write_text(yaml.safe_dump(run.model_dump()))
    return folder


def refusals(*words: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_training(words)
    return list(caught.value.problems)


def test_a_resumed_run_has_the_configuration_that_it_was_started_with(started: Path) -> None:
    run = load_training([f"resume={started}"])
    assert (run.resume, run.output_dir) == (str(started), str(started))
    assert (run.loop.steps, run.graders) == (20, {"odd": {"use": "exact"}})


@pytest.mark.parametrize("word", ["+resume={}", "resume='{}'"])
def test_other_ways_to_write_it(started: Path, word: str) -> None:
    assert load_training([word.format(started)]).resume == str(started)


def test_no_resume(started: Path) -> None:
    assert load_training([f"resume={started}", "resume=null", "experiment=quickstart"]).resume is None


def test_a_moved_run_goes_on_where_it_is_now(started: Path) -> None:
    moved = started.rename(started.with_name("moved"))
    assert load_training([f"resume={moved}"]).output_dir == str(moved)


def test_what_may_change_on_resume(started: Path) -> None:
    run = load_training(
        [f"resume={started}", "loop.steps=40", "evaluation.every_steps=null", "logging.report_to=[]", "++dry_run=true"]
    )
    assert (run.loop.steps, run.evaluation.every_steps, run.logging.report_to, run.dry_run) == (40, None, [], True)


def test_a_preset_of_what_may_change_on_resume(started: Path) -> None:
    # The preset first, as on any command line, wherever it stands.
    run = load_training([f"resume={started}", "cluster.address=10.0.0.1:6379", "cluster=attach", "logging=none"])
    assert (run.cluster, run.logging.report_to) == (AttachClusterConfig(address="10.0.0.1:6379"), [])
    assert refusals(f"resume={started}", "cluster=atach") == [
        "cluster=atach: unknown preset (did you mean attach?); available: attach, local"
    ]


@pytest.mark.parametrize("allowed", MAY_CHANGE_ON_RESUME)
def test_what_may_change_exists(allowed: str) -> None:
    section: Any = RunConfig
    for name in allowed.rstrip(".").split("."):
        section = section.model_fields[name].annotation


def test_what_may_not_is_refused_all_at_once(started: Path) -> None:
    words = ["seed=3", "loop.prompts_per_step=3", "output_dir=/x", "~evaluation.metric", "sampler=fake", "dry_runs=1"]
    assert refusals(f"resume={started}", *words) == [
        f"{word}: cannot be changed on resume; allowed are {ALLOWED}" for word in words
    ]


def test_wrong_values_on_resume(started: Path) -> None:
    found = refusals(f"resume={started}", "seed=3", "loop.steps=x", "loop.steps", "evaluation.metrik=a")
    assert [problem.split(":")[0].split(";")[0] for problem in found] == [
        "loop.steps",
        "seed=3",
        "loop.steps=x",
        "evaluation.metrik is unknown",
    ]
    assert refusals(f"resume={started}", "cluster.kind.x=1") == [
        "cluster.kind={'x': 1}: should be one of 'local', 'attach'; select it with cluster=<preset>"
    ]


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        load_training([f"resume={tmp_path}"])
    assert caught.value.problems == (f"resume={tmp_path}: the folder contains no run (no config.yaml)",)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "contains no configuration; rft did not write it"),
        (b"- a\n", "contains no configuration; rft did not write it"),
        (b"{", "cannot be read: while parsing a flow node"),
        (b"\xff\xfe\x00", "cannot be read: 'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_a_broken_configuration(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load_training([f"resume={tmp_path}"])
    (found,) = caught.value.problems
    assert found.startswith(f"{tmp_path / 'config.yaml'} {problem}")


def test_a_saved_value_with_a_dollar_sign_stays_as_it_is(started: Path) -> None:
    values = yaml.safe_load((started / "config.yaml").read_text())
    values["data"]["system"] = "Pay ${amount}."
    (started / "config.yaml").write_text(yaml.safe_dump(values))
    assert load_training([f"resume={started}"]).data.system == "Pay ${amount}."


# Hydra's own options.

Job = tuple[list[str], str | None]


@pytest.fixture
def hydra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, list[Job]]]:
    """Call `with_hydra` in a folder of its own; returns its code and the jobs it ran, which end with 0, 1, 2, ..."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rft"])

    def call(*words: str) -> tuple[int, list[Job]]:
        jobs: list[Job] = []

        def job(overrides: list[str], folder: str | None) -> int:
            jobs.append((overrides, folder))
            load_training(overrides, folder)  # composes while Hydra itself runs
            return len(jobs) - 1

        return with_hydra("train", words, job), jobs

    return call


def test_a_multirun_runs_each_value_in_a_folder_of_its_own(
    hydra: Callable[..., tuple[int, list[Job]]], tmp_path: Path
) -> None:
    code, jobs = hydra(
        "-m",
        "hydra/launcher=basic",
        "experiment=quickstart",
        "loop.steps=1,2",
        "name='a b'",
    )
    assert code == 1
    assert [sorted(overrides) for overrides, _ in jobs] == [
        ["experiment=quickstart", f"loop.steps={steps}", "name='a b'"] for steps in (1, 2)
    ]
    folders = [Path(str(folder)) for _, folder in jobs]
    assert [folder.name for folder in folders] == ["0", "1"]
    assert {folder.parent.parent for folder in folders} == {tmp_path / "runs" / "a b"}


def test_without_multirun_the_configuration_decides_the_folder(hydra: Callable[..., tuple[int, list[Job]]]) -> None:
    assert hydra("experiment=quickstart") == (0, [(["experiment=quickstart"], None)])


def test_presets_from_a_folder_of_the_users(hydra: Callable[..., tuple[int, list[Job]]], tmp_path: Path) -> None:
    (tmp_path / "mine" / "data").mkdir(parents=True)
    (tmp_path / "mine" / "data" / "own.yaml").write_text("train: own.jsonl\n")
    _, [(overrides, _)] = hydra("--config-dir", "mine", "experiment=quickstart", "data=own")
    assert load_training(overrides).data.train == "own.jsonl"
    _, [(again, _)] = hydra("--config-dir=mine", "experiment=quickstart", "data=own")
    assert again == overrides


def test_cfg_prints_the_configuration_and_runs_nothing(
    hydra: Callable[..., tuple[int, list[Job]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert hydra("--cfg", "job", "experiment=quickstart", "learner.adapter.rank=2") == (0, [])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["learner"]["adapter"]["rank"] == 2
    assert printed.keys() == RunConfig.model_fields.keys()
    for section in ("model", "data", "loop", "grading", "evaluation", "logging"):
        kind: Any = RunConfig.model_fields[section].annotation
        assert printed[section].keys() == kind.model_fields.keys()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--cfg", "job", "sampler=vlm"), "sampler=vlm: unknown preset (did you mean vllm?); "),
        (("-m", "sampler=fake,vlm"), "sampler=vlm: unknown preset (did you mean vllm?); "),
        (("--cfg", "job", "seed=1,2"), "seed=1,2: several values; "),
    ],
)
def test_wrong_words_are_found_before_hydra_runs(
    hydra: Callable[..., tuple[int, list[Job]]], words: tuple[str, ...], problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        hydra(*words)
    assert caught.value.problems[0].startswith(problem)
