"""A run's copy is asked before a run starts, and brought to a machine that has nothing of the run."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from rft.errors import OutputError
from rft.run_folder.copies import Copier, check_copy, fetch_run
from rft.run_folder.find_checkpoint import last_checkpoint
from rft.storage import Place

Save = Callable[[int], None]


@pytest.fixture
def stored(run: Path, place: Place, save: Save) -> Place:
    """A copy with two whole checkpoints, and a third that was cut short."""
    for step in (9, 10):
        save(step)
    (run / "adapter").mkdir()
    (run / "adapter" / "README.md").write_text("card")
    Copier(run, place).copy(10, threading.Event())
    place.put(run / "config.yaml", "checkpoints/checkpoint-11/optimizer.pt")
    return place


def test_what_is_needed_comes_back(run: Path, stored: Place, tmp_path: Path) -> None:
    here = tmp_path / "here"
    fetched = fetch_run(stored, here, deadline_s=60)
    names = sorted(path.relative_to(here).as_posix() for path in here.rglob("*") if path.is_file())
    # The last whole checkpoint only, and nothing that the end of the run makes anew.
    checkpoint = "checkpoints/checkpoint-10"
    assert names == [
        *(f"{checkpoint}/{name}" for name in ("adapter.safetensors", "complete.json", "optimizer.pt")),
        "config.yaml",
        "metrics.jsonl",
        "tensorboard/events.1",
    ]
    assert all((here / name).read_bytes() == (run / name).read_bytes() for name in names)
    assert last_checkpoint(here) == (here / checkpoint, 10)
    # What was just brought does not travel back; old and half checkpoints go.
    assert Copier(here, stored, fetched).copy(10, threading.Event()) == []
    assert {name.split("/")[1] for name in stored.files("checkpoints")} == {"checkpoint-10"}


def test_a_folder_with_a_run_is_left_alone(run: Path, stored: Place) -> None:
    with pytest.raises(OutputError, match=r"already holds a run; continue it with resume="):
        fetch_run(stored, run, deadline_s=60)


def test_an_interrupted_fetch_can_be_made_again(stored: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[str] = []
    get = Place.get

    def break_off(self: Place, name: str, target: Path) -> None:
        if len(got) == 3:
            raise KeyboardInterrupt
        got.append(name)
        get(self, name, target)

    with monkeypatch.context() as patch:
        patch.setattr(Place, "get", break_off)
        with pytest.raises(KeyboardInterrupt):
            fetch_run(stored, tmp_path / "here", deadline_s=60)
    assert fetch_run(stored, tmp_path / "here", deadline_s=60)


def test_no_run_and_no_whole_checkpoint(run: Path, place: Place, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"the storage contains no run \(no config.yaml\)"):
        fetch_run(place, tmp_path / "here", deadline_s=60)
    Copier(run, place).copy(0, threading.Event())
    with pytest.raises(OutputError, match="no complete checkpoint; start a new run"):
        fetch_run(place, tmp_path / "here", deadline_s=60)
    assert not (tmp_path / "here").exists()


def test_a_name_that_leads_elsewhere(stored: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = stored.files()
    monkeypatch.setattr(Place, "files", lambda _: [*files, f"{tmp_path}/evil"])
    with pytest.raises(OutputError, match="evil would be outside"):
        fetch_run(stored, tmp_path / "here", deadline_s=60)


def test_a_new_run_does_not_overwrite_another(stored: Place) -> None:
    with pytest.raises(OutputError, match=r"already holds a run; continue it with resume="):
        check_copy(stored, None)


def test_a_new_place_is_fine(place: Place) -> None:
    check_copy(place, None)
    check_copy(place, 20)


def test_a_run_does_not_go_on_behind_its_copy(stored: Place) -> None:
    check_copy(stored, 10)
    with pytest.raises(OutputError, match=r"is at step 10, and this folder at step 9: the run continued elsewhere"):
        check_copy(stored, 9)
