"""Models and checkpoints between the driver and a node that shares no file system with it.

The node is a folder of its own; its keeper is asked through what looks like a Ray actor, without Ray.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rft.cluster import file_transfer as travel
from rft.cluster import node_agent as keeper_module
from rft.cluster.mirrored_learner import Mirror
from rft.cluster.node_agent import NodeKeeper
from rft.cluster.preparation import send_model
from rft.errors import ClusterError
from rft.learning.checkpoints import seal
from rft.learning.spec import COMPLETE
from rft.models.base_model import fingerprint


class Remote:
    """Calls methods as `ray.remote` does: `keeper.read.remote("a", 0)`, to be awaited."""

    def __init__(self, keeper: NodeKeeper) -> None:
        self.keeper = keeper

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Any] = getattr(self.keeper, name)

        class Method:
            @staticmethod
            def remote(*arguments: Any, **named: Any) -> Awaitable[Any]:
                async def call() -> Any:
                    return method(*arguments, **named)

                return call()

        return Method


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that every checkpoint takes several; and no object store."""
    for module in (keeper_module, travel):
        monkeypatch.setattr(module, "READ_BYTES", 1000)
    monkeypatch.setattr(travel.ray, "put", lambda data: data)


@pytest.fixture
def node(tmp_path: Path) -> Path:
    return tmp_path / "node"


@pytest.fixture
def own_model(tiny_model: Path, tmp_path: Path, small_parts: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that is nowhere but on the driver; its weights take 25 parts."""
    for module in (keeper_module, travel):
        monkeypatch.setattr(module, "READ_BYTES", 100_000)
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    return folder


def test_a_model_is_sent_and_checked(node: Path, own_model: Path) -> None:
    keeper, wanted = NodeKeeper(str(node)), fingerprint(own_model)
    assert not keeper.find_model("/no/such/folder", None, wanted)
    asyncio.run(send_model({"arriving/1": Remote(keeper)}, own_model, wanted, 20))
    assert keeper.find_model("/no/such/folder", None, wanted)
    arrived = node / "models" / wanted
    assert not arrived.is_symlink()
    for file in own_model.iterdir():
        assert (arrived / file.name).read_bytes() == file.read_bytes()
    assert list((node / "arriving").iterdir()) == []


def test_a_model_that_arrives_changed_is_not_kept(node: Path, own_model: Path) -> None:
    with pytest.raises(ClusterError, match=rf"with fingerprint {fingerprint(own_model)}, not 0000; has .* changed"):
        asyncio.run(send_model({"arriving/1": Remote(NodeKeeper(str(node)))}, own_model, "0000", 20))
    assert not (node / "models").exists()
    assert list((node / "arriving").iterdir()) == []


def test_a_model_that_is_there_is_not_sent(node: Path, own_model: Path) -> None:
    keeper, wanted = NodeKeeper(str(node)), fingerprint(own_model)
    assert keeper.find_model(str(own_model), None, wanted)
    assert (node / "models" / wanted).resolve() == own_model.resolve()
    # It has changed meanwhile: what was found before does not count.
    (own_model / "config.json").write_text("{}")
    assert not keeper.find_model(str(own_model), None, wanted)


def test_the_model_of_a_faster_node_on_this_machine_is_never_away(
    node: Path, own_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = fingerprint(own_model)
    kept = node / "models" / wanted

    def locate_while_another_is_faster(path: str) -> Path:
        kept.parent.mkdir()
        kept.symlink_to(own_model)
        return own_model

    def never(path: Path) -> None:
        raise AssertionError(f"{path} was away for those who read it")

    monkeypatch.setattr("rft.cluster.node_agent.locate", locate_while_another_is_faster)
    monkeypatch.setattr(Path, "unlink", never)
    assert NodeKeeper(str(node)).find_model(str(own_model), None, wanted)
    assert [path.name for path in kept.parent.iterdir()] == [wanted]

    shutil.copytree(own_model, node / "arriving/1")
    monkeypatch.setattr("rft.cluster.node_agent.shutil.rmtree", lambda path: removed.append(path))
    removed: list[Path] = []
    assert NodeKeeper(str(node)).check_model("arriving/1", wanted) is None
    assert removed == [node / "arriving/1"]


def test_the_embedded_model_comes_with_the_code(node: Path) -> None:
    from rft.models.base_model import EMBEDDED_MODELS

    wanted = fingerprint(EMBEDDED_MODELS["embedded:tiny"])
    assert NodeKeeper(str(node)).find_model("/elsewhere/rft/embedded/model", "embedded:tiny", wanted)


def test_a_keeper_stays_in_its_folder(node: Path) -> None:
    keeper = NodeKeeper(str(node))
    assert node.stat().st_mode & 0o777 == 0o700
    for path in ("../outside", "/etc/passwd", ".", "a/../../outside"):
        with pytest.raises(ClusterError, match="is not below"):
            keeper.write(path, b"x", is_first=True)


def checkpoint(folder: Path, step: int, data: bytes) -> Path:
    """As a learner writes it."""
    made = folder / "checkpoints" / f"checkpoint-{step}"
    made.mkdir(parents=True)
    (made / "weights").write_bytes(data)
    (made / COMPLETE).write_text(f'{{"step": {step}}}')
    return made


def mirror_of(node: Path, run: Path) -> Mirror:
    return Mirror(Remote(NodeKeeper(str(node))), node_folder=str(node), run="r", run_folder=run, deadline_s=20)


def test_checkpoints_come_back_and_old_ones_go(node: Path, tmp_path: Path, make_learner_spec: Any) -> None:
    run = tmp_path / "run"
    run.mkdir()
    mirror = mirror_of(node, run)
    there = asyncio.run(mirror.move(make_learner_spec(run))).run_folder
    assert there == node / "runs" / "r"
    first = checkpoint(there, 1, bytes(range(256)) * 20)  # 5,120 bytes: six parts
    asyncio.run(mirror.bring_back())
    assert (run / "checkpoints" / "checkpoint-1" / "weights").read_bytes() == bytes(range(256)) * 20
    assert (run / "checkpoints" / "checkpoint-1" / COMPLETE).read_text() == '{"step": 1}'
    # The learner keeps one.
    shutil.rmtree(first)
    checkpoint(there, 2, b"new")
    asyncio.run(mirror.bring_back())
    assert [folder.name for folder in (run / "checkpoints").iterdir()] == ["checkpoint-2"]
    assert list(run.rglob("*.part")) == []
    asyncio.run(mirror.remove())
    assert not there.exists()


def test_a_checkpoint_that_arrives_damaged_is_refused(node: Path, tmp_path: Path, make_learner_spec: Any) -> None:
    run = tmp_path / "run"
    run.mkdir()
    mirror = mirror_of(node, run)
    there = asyncio.run(mirror.move(make_learner_spec(run))).run_folder
    seal(checkpoint(there, 1, b"old"), 1)
    asyncio.run(mirror.bring_back())
    made = checkpoint(there, 2, b"new")
    seal(made, 2)
    (made / "weights").write_bytes(b"NEW")
    with pytest.raises(ClusterError, match=r"checkpoint-2 arrived damaged .*: weights has another content"):
        asyncio.run(mirror.bring_back())
    assert [folder.name for folder in (run / "checkpoints").glob("checkpoint-*")] == ["checkpoint-1"]
    (made / "weights").write_bytes(b"new")
    asyncio.run(mirror.bring_back())
    assert [folder.name for folder in (run / "checkpoints").iterdir() if folder.name != "checkpoint-1"] == [
        "checkpoint-2"
    ]


def test_a_resumed_learner_finds_its_checkpoint_and_its_template(
    node: Path, tmp_path: Path, make_learner_spec: Any
) -> None:
    run = tmp_path / "run"
    made = checkpoint(run, 7, b"weights of step 7")
    template = tmp_path / "template.jinja"
    template.write_text("{{ messages }}")
    moved = asyncio.run(
        mirror_of(node, run).move(make_learner_spec(run, resume_from=made, chat_template=str(template)))
    )
    assert moved.resume_from == node / "runs" / "r" / "checkpoints" / "checkpoint-7"
    assert (moved.resume_from / "weights").read_bytes() == b"weights of step 7"
    assert (moved.resume_from / COMPLETE).is_file()
    assert Path(str(moved.run.model.chat_template)).read_text() == "{{ messages }}"


def test_a_function_of_the_users_travels_to_the_learner(
    node: Path, tmp_path: Path, make_learner_spec: Callable[..., Any]
) -> None:
    run, file = tmp_path / "run", tmp_path / "mine.py"
    run.mkdir()
    file.write_text("def half(rewards, group_size): ...")
    spec = make_learner_spec(run, "grpo", advantage=f"{file}:half", scale_rewards="none")
    learner = asyncio.run(mirror_of(node, run).move(spec)).run.learner
    assert learner.advantage == f"{node}/runs/r/user/mine.py:half"
    assert learner.user_file().read_text() == "def half(rewards, group_size): ..."


def test_a_template_that_ships_with_rft_does_not_travel(node: Path, tmp_path: Path, make_learner_spec: Any) -> None:
    run = tmp_path / "run"
    run.mkdir()
    moved = asyncio.run(mirror_of(node, run).move(make_learner_spec(run, chat_template="chatml")))
    assert moved.run.model.chat_template == "chatml"
