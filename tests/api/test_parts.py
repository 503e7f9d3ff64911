"""A loop of one's own on `rft.parts`: the one that docs/python.md shows."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

import rft
from rft.errors import ConfigError
from tests.docs.blocks import read_blocks

from .conftest import FakeLearner

[LOOP] = [block.text for block in read_blocks() if block.file.endswith("python.md") and "rft.parts(" in block.text]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with four tasks."""
    rows = [{"prompt": f"{number} + 1 =", "answer": str(number + 1)} for number in range(4)]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


WORDS = (
    "sampler=fake",
    "learner=fake",
    "model.path=embedded:tiny",
    "data.train=tasks.jsonl",
    "graders.correct.use=exact",
    "loop.prompts_per_step=2",
    "loop.completions_per_prompt=3",
    "output_dir=run",
)


def test_the_loop_of_the_document(
    fake_parts: FakeLearner, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = rft.parts
    monkeypatch.setattr("rft.parts", lambda experiment, steps: given(*WORDS, steps))
    exec(compile(LOOP, "docs/python.md", "exec"), {"__name__": "docs"})
    assert [len(groups) for groups in fake_parts.batches] == [2, 2, 2]
    assert all(len(group.rollouts) == 3 for groups in fake_parts.batches for group in groups)
    # The batch of each step is sampled under the policy of the step before.
    versions = [
        {rollout.policy.version for group in groups for rollout in group.rollouts} for groups in fake_parts.batches
    ]
    assert versions == [{0}, {1}, {2}]
    assert fake_parts.saved_steps == [3]
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(",")[2] for line in lines] == [" proved: True, {'loss': 0.5}"] * 3
    # One of the four tasks has the answer 4; all four are sampled in every two steps.
    rollouts = list(rft.open_run(folder / "run").rollouts(phase="train"))
    assert sum(rollout["reward"] for rollout in rollouts if rollout["step"] <= 2) == 3.0
    assert {rollout["item"]["answer"] for rollout in rollouts if rollout["reward"]} == {"4"}


def test_the_loop_is_short() -> None:
    body = LOOP[LOOP.index("async def main") : LOOP.index("asyncio.run")]
    assert len(body.strip().splitlines()) <= 20


def test_parts_know_their_tasks_and_their_folder(fake_parts: FakeLearner, folder: Path) -> None:
    async def look() -> None:
        async with rft.parts(*WORDS, quiet=True) as parts:
            assert (len(parts.tasks.train), parts.tasks.test) == (4, [])
            assert len(parts.order.of_step(1)) == 2
            assert repr(parts) == "<rft.Parts run>"
            assert (parts.folder, parts.config.loop.prompts_per_step) == (Path("run"), 2)

    asyncio.run(look())
    assert json.loads((folder / "run" / "manifest.json").read_text())["command"][0] == "rft.parts"
    assert rft.open_run("run").status == "unfinished"


def test_a_resume_is_refused(fake_parts: FakeLearner, folder: Path) -> None:
    asyncio.run(_open_and_close(*WORDS))
    with pytest.raises(ConfigError, match=r"resume=run: rft\.parts starts a new run"):
        asyncio.run(_open_and_close("resume=run"))


async def _open_and_close(*words: str) -> None:
    async with rft.parts(*words, quiet=True):
        pass
