"""What goes into storage, in which order, and what is removed there."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rft.errors import StorageError
from rft.run_folder.copies import Copier
from rft.run_folder.copies.copied_files import checkpoint_of, travels, whole_checkpoints
from rft.storage import Place

Save = Callable[[int], None]

FIRST = "checkpoints/checkpoint-1"
SECOND = "checkpoints/checkpoint-2"
OTHERS = ["config.yaml", "metrics.jsonl", "tensorboard/events.1"]


def copy(copier: Copier, last_step: int) -> list[str]:
    return copier.copy(last_step, threading.Event())


def of(checkpoint: str) -> list[str]:
    return [f"{checkpoint}/{name}" for name in ("adapter.safetensors", "optimizer.pt", "complete.json")]


def test_the_mark_of_a_checkpoint_goes_last(run: Path, place: Place, save: Save) -> None:
    save(1)
    save(2)
    # The newest first: the older one may be removed here before its turn comes.
    assert copy(Copier(run, place), 2) == [*OTHERS, *of(SECOND), *of(FIRST)]
    assert place.files() == sorted([*OTHERS, *of(FIRST), *of(SECOND)])
    assert place.read(f"{SECOND}/optimizer.pt") == b"moments of 2"


def test_only_what_has_changed_travels(run: Path, place: Place, save: Save) -> None:
    save(1)
    copier = Copier(run, place)
    copy(copier, 1)
    assert copy(copier, 1) == []
    save(2)
    assert copy(copier, 2) == ["metrics.jsonl", *of(SECOND)]
    assert place.read("metrics.jsonl") == b'{"step": 0}\n{"step": 1}\n{"step": 2}\n'


def test_a_checkpoint_that_is_gone_here_goes_there_too(run: Path, place: Place, save: Save) -> None:
    for step in (1, 2):
        save(step)
    copier = Copier(run, place)
    copy(copier, 2)
    save(3)
    shutil.rmtree(run / FIRST)
    copy(copier, 3)
    assert whole_checkpoints(place.files()) == [3, 2]
    assert not any(name.startswith(FIRST) for name in place.files())


def test_what_is_half_written_stays_here(run: Path, place: Place, save: Save) -> None:
    save(1)
    (run / FIRST / "complete.json").unlink()
    (run / "summary.json.unfinished").write_text("{")
    (run / "adapter.tmp").mkdir()
    (run / "adapter.tmp" / "README.md").write_text("half")
    (run / ".0123").write_text("")
    assert copy(Copier(run, place), 1) == OTHERS


def test_a_checkpoint_waits_until_its_step_has_a_line(run: Path, place: Place, save: Save) -> None:
    save(1)
    save(2)
    copier = Copier(run, place)
    assert copy(copier, 1) == [*OTHERS, *of(FIRST)]
    assert copy(copier, 2) == of(SECOND)


class Full(Place):
    """One that takes so many files."""

    room = 0

    def put(self, file: Path, name: str) -> bool:
        if not self.room:
            raise StorageError("full")
        self.room -= 1
        return super().put(file, name)


@pytest.mark.parametrize("room", range(9))
def test_a_copy_cut_short_anywhere_is_one_to_go_on_from(run: Path, place: Place, save: Save, room: int) -> None:
    full = Full(place.address)
    save(1)
    full.room = 99
    copier = Copier(run, full)
    copy(copier, 1)
    save(2)
    save(3)
    shutil.rmtree(run / FIRST)
    full.room = room
    # metrics.jsonl and two checkpoints of three files.
    if room < 7:
        with pytest.raises(StorageError, match="full"):
            copy(copier, 3)
        # The first goes only when nothing is missing, and the newest counts only when it is whole.
        assert whole_checkpoints(place.files()) == ([3, 1] if room >= 4 else [1])
        full.room = 99
    copy(copier, 3)
    assert whole_checkpoints(place.files()) == [3, 2]
    assert place.read("checkpoints/checkpoint-3/optimizer.pt") == b"moments of 3"


def test_a_checkpoint_that_is_removed_while_it_is_copied(
    run: Path, place: Place, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(1)
    copier = Copier(run, place)
    copy(copier, 1)
    save(2)
    put = Place.put

    def removed(self: Place, file: Path, name: str) -> bool:
        done = put(self, file, name)
        shutil.rmtree(run / SECOND, ignore_errors=True)
        return done

    monkeypatch.setattr(Place, "put", removed)
    with pytest.raises(StorageError, match=r"checkpoint-2 was removed here before it was copied; raise loop\.keep"):
        copy(copier, 2)
    assert whole_checkpoints(place.files()) == [1]


def test_a_checkpoint_made_again_does_not_count_before_it_is_whole(run: Path, place: Place, save: Save) -> None:
    save(1)
    copy(Copier(run, place), 1)
    full = Full(place.address)
    full.room = 4  # all but one part and the mark
    (run / FIRST / "optimizer.pt").write_text("others")
    with pytest.raises(StorageError, match="full"):
        copy(Copier(run, full), 1)
    assert whole_checkpoints(place.files()) == []
    copy(Copier(run, place), 1)
    assert whole_checkpoints(place.files()) == [1]


def test_nothing_more_is_copied_once_it_is_given_up(run: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    given_up = threading.Event()
    put = Place.put

    def then_give_up(*arguments: Any) -> bool:
        given_up.set()
        return put(*arguments)

    monkeypatch.setattr(Place, "put", then_give_up)
    assert Copier(run, place).copy(0, given_up) == ["config.yaml"]


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("checkpoints/checkpoint-20/complete.json", 20),
        ("checkpoints/checkpoint-20/policies/a.json", 20),
        ("checkpoints/checkpoint-x/a", None),
        ("checkpoints/README.md", None),
        ("adapter/checkpoint-3/a", None),
        ("metrics.jsonl", None),
    ],
)
def test_the_checkpoint_of_a_file(name: str, step: int | None) -> None:
    assert checkpoint_of(name) == step


def test_what_travels() -> None:
    names = ["metrics.jsonl", "a/b.part", "adapter.tmp/x", ".git/x", "config.yaml.unfinished", "run.lock", "a/b"]
    names.append("heartbeat.json")
    names += ["checkpoints/.unfinished/checkpoint-3/x", "checkpoints/damaged-checkpoint-3/x"]
    names.append("tokens/step-000001.safetensors")  # a run that continues elsewhere samples these steps again
    assert list(filter(travels, names)) == ["metrics.jsonl", "a/b"]
