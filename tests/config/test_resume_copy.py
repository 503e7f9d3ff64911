"""The configuration of a run that has a copy in storage: where that is, and what goes on from there."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import yaml

from rft.config.commands import load_training
from rft.config.grid import check_trials
from rft.config.schema import RunConfig
from rft.errors import ConfigError, OutputError

QUICK = "experiment=quickstart"


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    fsspec.filesystem("memory").store.clear()
    fsspec.filesystem("memory").pseudo_dirs[:] = [""]


def store(address: str, run: RunConfig) -> None:
    fsspec.filesystem("memory").pipe_file(f"{address}/config.yaml", yaml.safe_dump(run.model_dump()).encode())


@pytest.fixture
def copy() -> str:
    """Where the copy is of a run of 20 steps."""
    run = load_training([QUICK, "loop.steps=20", "storage=memory://bucket", "output_dir=runs/first"])
    assert run.storage == "memory://bucket/quickstart/first"
    store(run.storage, run)
    return run.storage


def refusals(*words: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_training(words)
    return list(caught.value.problems)


def test_nothing_is_copied_unless_it_is_asked_for() -> None:
    assert load_training([QUICK]).storage is None


def test_a_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = load_training([QUICK, "storage=copies", "output_dir=first"])
    assert run.storage == f"{tmp_path}/copies/quickstart/first"


def test_trials_have_folders_of_their_own() -> None:
    trials = [[QUICK, "storage=memory://bucket", f"seed={seed}"] for seed in (0, 1)]
    assert [run.storage for run in check_trials(trials, Path("/runs/sweep_1"))] == [
        "memory://bucket/quickstart/sweep_1/0",
        "memory://bucket/quickstart/sweep_1/1",
    ]


def test_a_run_goes_on_from_its_copy(copy: str) -> None:
    run = load_training([f"resume={copy}/", "loop.steps=30"])
    # What is brought goes where it was, and comes back to the same place.
    assert (run.resume, run.storage, run.output_dir) == (copy, copy, "runs/first")
    assert run.loop.steps == 30


def test_what_else_may_change(copy: str) -> None:
    run = load_training([f"resume='{copy}'", "output_dir=second", "storage=null"])
    assert (run.resume, run.storage, run.output_dir) == (copy, None, "second")
    moved = load_training([f"resume={copy}", "output_dir=second", "storage=memory://other"])
    assert moved.storage == "memory://other/quickstart/second"


def test_a_run_folder_that_had_no_copy_gets_one(tmp_path: Path) -> None:
    folder = tmp_path / "first"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(load_training([QUICK], str(folder)).model_dump()))
    assert load_training([f"resume={folder}"]).storage is None
    assert load_training([f"resume={folder}", "storage=memory://b"]).storage == "memory://b/quickstart/first"
    (refused,) = refusals(f"resume={folder}", "output_dir=/elsewhere")
    assert refused.startswith("output_dir=/elsewhere: cannot be changed on resume")


def test_a_copy_with_a_path_is_known_by_what_it_says(tmp_path: Path) -> None:
    run = load_training([QUICK, f"storage=file://{tmp_path}/disk", f"output_dir={tmp_path}/first"])
    copy = tmp_path / "disk" / "quickstart" / "first"
    for folder in (copy, tmp_path / "first"):
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(run.model_dump()))
    there = load_training([f"resume={copy}"])
    assert (there.resume, there.output_dir) == (str(copy), str(tmp_path / "first"))
    here = load_training([f"resume={tmp_path}/first"])
    assert (here.resume, here.output_dir) == (str(tmp_path / "first"), str(tmp_path / "first"))
    assert here.storage == f"file://{copy}"


def test_no_run_there() -> None:
    with pytest.raises(OutputError) as caught:
        load_training(["resume=memory://bucket/nothing"])
    assert caught.value.problems == ("resume=memory://bucket/nothing: the storage contains no run (no config.yaml)",)


def test_addresses_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    assert refusals("resume=s3://bucket/runs/first") == [
        "resume=s3://bucket/runs/first: s3:// needs a library that is not installed; run: pip install s3fs"
    ]
    (refused,) = refusals("resume=s3://key:verysecret@bucket/runs")
    assert refused.startswith("resume=s3://<redacted>@bucket/runs: an address is written into the run folder")
