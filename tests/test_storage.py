"""A folder anywhere: what is written there is read again, and what cannot be is said without keys."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from rft import storage
from rft.config import run_problems
from rft.config.commands import load_training
from rft.errors import ConfigError, OutputError, StorageError
from rft.storage import Place, address_problems, below, check_place


@pytest.fixture(params=["memory", "file", "path"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty one, without the folder for it."""
    addresses = {
        "memory": "memory://bucket/runs/a",
        "file": f"file://{tmp_path}/there/a",
        "path": str(tmp_path / "there" / "a"),
    }
    yield Place(addresses[request.param])
    fsspec.filesystem("memory").store.clear()
    fsspec.filesystem("memory").pseudo_dirs[:] = [""]


def test_files_go_there_and_come_back(place: Place, tmp_path: Path) -> None:
    assert (place.files(), place.holds("config.yaml")) == ([], False)
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    (tmp_path / "weights").write_bytes(bytes(range(256)))
    assert place.put(tmp_path / "config.yaml", "config.yaml")
    assert place.put(tmp_path / "weights", "checkpoints/checkpoint-1/weights")
    assert place.files() == ["checkpoints/checkpoint-1/weights", "config.yaml"]
    assert place.files("checkpoints") == ["checkpoints/checkpoint-1/weights"]
    assert place.read("config.yaml") == b"seed: 0\n"
    place.get("checkpoints/checkpoint-1/weights", tmp_path / "back" / "weights")
    assert (tmp_path / "back" / "weights").read_bytes() == bytes(range(256))
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["weights"]


def test_a_file_is_replaced_and_removed(place: Place, tmp_path: Path) -> None:
    for text in ("a longer first text", "second"):
        (tmp_path / "a").write_text(text)
        place.put(tmp_path / "a", "x/a")
    assert place.read("x/a") == b"second"
    place.put(tmp_path / "a", "x/b")
    place.put(tmp_path / "a", "y/a")
    place.remove("x/a")
    assert place.files() == ["x/b", "y/a"]
    place.remove_folder("x")
    assert place.files() == ["y/a"]


def test_a_file_that_is_gone_is_not_an_error(place: Place, tmp_path: Path) -> None:
    assert place.put(tmp_path / "gone", "gone") is False
    assert place.files() == []


def test_a_neighbour_with_a_longer_name_is_another_place(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    Place("memory://runs/first-2").put(tmp_path / "a", "a")
    assert Place("memory://runs/first").files() == []


def test_the_probe_leaves_nothing(place: Place) -> None:
    place.check_writable()
    assert place.files() == []


def test_the_same_place_by_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Place("runs/a") == Place(f"{tmp_path}/runs/a/") == Place(f"file://{tmp_path}/runs/a")
    assert Place("runs/a") != Place("runs/b")
    assert Place(f"memory://{tmp_path}/runs/a") != Place("runs/a")
    assert (Place("runs/a").local, Place("memory://runs/a").local) == (tmp_path / "runs" / "a", None)


@pytest.mark.parametrize("top", ["s3://bucket/runs", "s3://bucket/runs/"])
def test_a_folder_below(top: str) -> None:
    assert below(top, "quickstart", "first") == "s3://bucket/runs/quickstart/first"


def test_a_path_below_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    assert below("runs", "a") == f"{tmp_path}/runs/a"
    assert below("~/runs", "a") == "/home/ada/runs/a"


# What is refused before anything starts.


@pytest.fixture
def without_s3fs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)


@pytest.mark.usefixtures("without_s3fs")
def test_a_library_that_is_missing_is_named() -> None:
    assert address_problems("storage", "s3://bucket/runs") == [
        "storage=s3://bucket/runs: s3:// needs a library that is not installed; run: pip install s3fs"
    ]
    with pytest.raises(ConfigError) as caught:
        load_training(["experiment=quickstart", "storage=s3://bucket/runs", "loop.stpes=1"])
    assert [problem.partition(";")[0] for problem in caught.value.problems] == [
        "loop.stpes is unknown",
        "storage=s3://bucket/runs: s3:// needs a library that is not installed",
    ]


def test_an_unknown_protocol() -> None:
    (problem,) = address_problems("storage", "s33://bucket/runs")
    assert problem.startswith("storage=s33://bucket/runs: there is no protocol s33; give a path, s3://")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("s3://AKIA123:verysecret@bucket/runs", "s3://<redacted>@bucket/runs"),
        ("https://host/runs?sig=verysecret", "https://host/runs?sig=<redacted>"),
    ],
)
def test_a_key_in_an_address_is_refused_and_not_repeated(address: str, shown: str) -> None:
    (problem,) = address_problems("storage", address)
    assert problem.startswith(f"storage={shown}: an address is written into the run folder, so it must not hold")
    assert "verysecret" not in problem


def test_addresses_that_may_be_given(tmp_path: Path) -> None:
    for address in ("memory://runs", f"file://{tmp_path}", "runs", "~/runs"):
        assert address_problems("storage", address) == []
    assert run_problems(load_training(["experiment=quickstart", "storage=memory://runs"])) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as caught:
        check_place(Place(f"file://{tmp_path}/file/runs"), tmp_path / "run")
    (problem,) = caught.value.problems
    assert problem.startswith(f"storage: file://{tmp_path}/file/runs: cannot be written: ")
    assert problem.endswith("get the right to write there, or choose another storage")


def test_a_place_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = threading.Event()
    monkeypatch.setattr(storage, "ANSWER_S", 0.01)
    monkeypatch.setattr(Place, "check_writable", lambda _: ends.wait())
    with pytest.raises(OutputError, match=r"timed out after 0\.01 s waiting for memory://runs to accept a file"):
        check_place(Place("memory://runs"), tmp_path)
    ends.set()


@pytest.mark.parametrize("inside", ["run", "run/copy", "."])
def test_a_place_within_the_run_folder_or_around_it(tmp_path: Path, inside: str) -> None:
    with pytest.raises(OutputError, match="contain each other"):
        check_place(Place(str(tmp_path / inside)), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_what_a_library_says_is_told_without_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "AWS_SECRET_ACCESS_KEY", "verysecret-0123")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("no bucket for\nverysecret-0123 at https://host/b?X-Amz-Signature=abc&sig=def")

    place = Place("memory://runs")
    monkeypatch.setattr(fsspec.filesystem("memory"), "pipe_file", refuse, raising=False)
    with pytest.raises(StorageError) as caught:
        place.check_writable()
    assert str(caught.value) == (
        "memory://runs: cannot be written: PermissionError: no bucket for <redacted> at "
        "https://host/b?X-Amz-Signature=<redacted>&sig=<redacted>"
    )
