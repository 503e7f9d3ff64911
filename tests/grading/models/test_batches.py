"""Rows of concurrent calls in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from rft.grading import load_grader
from rft.grading.models.batches import Batches, Reward, Row
from rft.grading.models.model_grader import model_graders, requested_gpus


class Model:
    """Rewards the length of an answer, one batch at a time, when the test allows it."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.may_go = asyncio.Event()

    async def score(self, rows: Sequence[Row]) -> Sequence[Reward]:
        self.batches.append([row.answer for row in rows])
        await self.may_go.wait()
        if any(row.answer == "bad" for row in rows):
            raise RuntimeError("out of memory")
        return [Reward(float(len(row.answer)), 1, 9) for row in rows]


def test_rows_that_arrive_during_a_batch_form_the_next_ones() -> None:
    async def job() -> None:
        model, batches = Model(), Batches(3)
        batches.score_rows = model.score
        calls = [asyncio.create_task(batches.score(Row([], "x" * number))) for number in range(2)]
        while not model.batches:
            await asyncio.sleep(0)
        calls += [asyncio.create_task(batches.score(Row([], "x" * number))) for number in range(2, 6)]
        await asyncio.sleep(0)
        model.may_go.set()
        assert [reward.value for reward in await asyncio.gather(*calls)] == [0, 1, 2, 3, 4, 5]
        assert model.batches == [["", "x"], ["xx", "xxx", "xxxx"], ["xxxxx"]]

    asyncio.run(job())


def test_an_error_is_that_of_its_batch_alone() -> None:
    async def job() -> None:
        model, batches = Model(), Batches(2)
        batches.score_rows = model.score
        model.may_go.set()
        calls = [batches.score(Row([], answer)) for answer in ("good", "bad", "later")]
        good, bad, later = await asyncio.gather(*calls, return_exceptions=True)
        assert (str(good), str(bad)) == ("out of memory", "out of memory")
        assert later == Reward(5.0, 1, 9)

    asyncio.run(job())


def test_calls_that_were_given_up_take_no_room() -> None:
    async def job() -> None:
        model, batches = Model(), Batches(1)
        batches.score_rows = model.score
        first, late, last = (asyncio.create_task(batches.score(Row([], answer))) for answer in ("a", "bb", "ccc"))
        while not model.batches:
            await asyncio.sleep(0)
        late.cancel()
        await asyncio.sleep(0)
        model.may_go.set()
        assert [(await first).value, (await last).value] == [1.0, 3.0]
        with pytest.raises(asyncio.CancelledError):
            await late
        assert model.batches == [["a"], ["ccc"]]

    asyncio.run(job())


def test_a_batch_with_missing_rewards_rewards_nobody() -> None:
    async def job() -> None:
        batches = Batches(3)

        async def score(rows: Sequence[Row]) -> Sequence[Reward]:
            return [Reward(1.0, 1, 9)] * (len(rows) - (len(rows) == 3))

        batches.score_rows = score
        calls = [batches.score(Row([], "x")) for _ in range(4)]
        *incomplete, alone = await asyncio.gather(*calls, return_exceptions=True)
        assert list(map(str, incomplete)) == ["the model returned 2 rewards for 3 completions"] * 3
        assert alone == Reward(1.0, 1, 9)

    asyncio.run(job())


def test_a_model_that_is_not_loaded_fails_at_once() -> None:
    with pytest.raises(RuntimeError, match="not loaded"):
        asyncio.run(asyncio.wait_for(Batches(1).score(Row([], "x")), 60))


def test_a_run_starts_the_models_of_the_built_in_grader_alone(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text("from graders.reward_model import RewardModel\n\nclass Own(RewardModel):\n    pass\n")
    entries = {
        "built_in": {"use": "reward_model", "model": "m"},
        "own": {"use": f"{own}:Own", "model": "m"},
    }
    started = model_graders([load_grader(name, entry) for name, entry in entries.items()])
    assert len(started) == len(requested_gpus(entries)) == 1
