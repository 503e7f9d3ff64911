"""A teacher scores the completions of a step, and what it cannot score is never a zero."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from rft.batches import Batcher
from rft.errors import GradeError, SampleError, SamplersLost
from rft.metrics.drops import count_drops
from rft.metrics.step import step_metrics
from rft.run.teachers.teacher_scores import TeacherPanel
from rft.sampling.engine import TopRequest, Tops
from rft.types import GradedGroup, Logprobs, Policy, Rollout, Score, Status, StopReason, Task, TopTokens

BAD = 99
"""A token that the fake teacher does not know."""


class FakeTeacher:
    """Gives the log-probability -token / 8 to each token, and records the groups that it scores."""

    def __init__(self, *, scores: dict[int, float] | None = None, error: type[Exception] = SampleError) -> None:
        self.calls: list[list[tuple[int, ...]]] = []
        self._scores = scores or {}
        self._error = error

    async def logprobs(self, sequences: Sequence[Sequence[int]]) -> Logprobs:
        self.calls.append([tuple(ids) for ids in sequences])
        await asyncio.sleep(0)
        if any(BAD in ids for ids in sequences):
            raise self._error("teacher 0 failed to score: token 99 is out of vocabulary")
        return tuple(tuple(self._scores.get(token, -token / 8) for token in ids[1:]) for ids in sequences)

    async def top_logprobs(self, sequences: Sequence[Sequence[int]], request: TopRequest) -> Tops:
        """The k best are tokens 0 to k - 1; at token t each has the log-probability -t."""
        rows = await self.logprobs(sequences)
        tops = []
        for ids, start in zip(sequences, request.starts, strict=True):
            best = [self._scores.get(-token, -float(token)) for token in ids[start:] for _ in range(request.k)]
            tops.append(TopTokens(request.k, array("i", list(range(request.k)) * len(ids[start:])), array("f", best)))
        return rows, tuple(tops)


def rollout(task: str, index: int, completion: tuple[int, ...]) -> Rollout:
    return Rollout(
        task_id=task,
        index=index,
        prompt_ids=(1, 2, 3),
        completion_ids=completion,
        logprobs=(-0.5,) * len(completion),
        text="some text",
        stop=StopReason.STOP,
        policy=Policy(version=0, fingerprint="base"),
    )


GOOD = [rollout("b", 1, (4,)), rollout("a", 0, (4, 8)), rollout("b", 0, (2,)), rollout("a", 1, (6,))]
"""Two groups of two, in the order of their arrival."""


def panel(teacher: Any, **limits: Any) -> TeacherPanel:
    return TeacherPanel(lambda task: teacher, **({"max_fault_share": 1.0, "fault_window": 200} | limits))


def grade(
    teacher: Any, rollouts: Sequence[Rollout], make_task: Callable[..., Task], *, ids: str = "ab", **limits: Any
) -> list[GradedGroup]:
    async def stream() -> AsyncIterator[Rollout]:
        for one in rollouts:
            yield one

    graded = panel(teacher, **limits).grade([make_task(id) for id in ids], stream(), rollouts_per_task=2)
    return asyncio.run(graded)


def test_each_group_is_scored_whole_and_in_order(make_task: Callable[..., Task]) -> None:
    teacher = FakeTeacher()
    first, second = grade(teacher, GOOD, make_task)
    assert teacher.calls == [[(1, 2, 3, 2), (1, 2, 3, 4)], [(1, 2, 3, 4, 8), (1, 2, 3, 6)]]
    assert (first.task.id, second.task.id) == ("a", "b")
    assert first.teacher_logprobs == ((-0.5, -1.0), (-0.75,))
    assert second.teacher_logprobs == ((-0.25,), (-0.5,))
    # The mean over the tokens, teacher minus student.
    assert first.rewards == [-0.25, -0.25]
    assert second.rewards == [0.25, 0.0]
    assert [score.value for grade in first.grades for score in grade.scores.values()] == first.rewards
    assert step_metrics([first, second])["score/teacher"] == pytest.approx(-0.0625)


def test_scoring_does_not_wait_for_other_groups(make_task: Callable[..., Task]) -> None:
    teacher = FakeTeacher()

    async def stream() -> AsyncIterator[Rollout]:
        for one in (GOOD[0], GOOD[2]):
            yield one
        while not teacher.calls:
            await asyncio.sleep(0)
        for one in (GOOD[1], GOOD[3]):
            yield one

    async def job() -> list[GradedGroup]:
        return await panel(teacher).grade([make_task("a"), make_task("b")], stream(), rollouts_per_task=2)

    assert len(asyncio.run(asyncio.wait_for(job(), 60))) == 2


def test_what_the_teacher_cannot_score_is_dropped_alone(make_task: Callable[..., Task]) -> None:
    rollouts = [*GOOD[1:], rollout("b", 1, (4, BAD))]
    _, group = grade(FakeTeacher(), rollouts, make_task)
    assert group.teacher_logprobs == ((-0.25,), None)
    assert group.rewards == [0.25, None]
    score = group.grades[1].scores["teacher"]
    assert (score.value, score.status) == (None, Status.GRADER_ERROR)
    assert score.reason == "teacher 0 failed to score: token 99 is out of vocabulary"
    assert count_drops([group]) == {"teacher: grader error": 1}


@pytest.mark.parametrize("value", [float("nan"), -float("inf")])
def test_a_score_that_is_not_finite_is_no_score(make_task: Callable[..., Task], value: float) -> None:
    first, _ = grade(FakeTeacher(scores={8: value}), GOOD, make_task)
    assert first.teacher_logprobs == (None, (-0.75,))
    assert first.grades[0].scores["teacher"].reason == f"the log-probability of token 1 is {value}"
    assert first.rewards == [None, -0.25]


def test_the_most_probable_tokens_of_completions_are_recorded(make_task: Callable[..., Task]) -> None:
    rollouts = [*GOOD[1:], rollout("b", 1, (4, BAD))]
    first, second = grade(FakeTeacher(), rollouts, make_task, top_logprobs=2)
    of_8 = TopTokens(2, array("i", [0, 1, 0, 1]), array("f", [-4.0, -4.0, -8.0, -8.0]))
    assert first.teacher_top == (of_8, TopTokens(2, array("i", [0, 1]), array("f", [-6.0, -6.0])))
    assert first.teacher_logprobs == ((-0.5, -1.0), (-0.75,))
    assert (
        [top is None for top in second.teacher_top] == [row is None for row in second.teacher_logprobs] == [False, True]
    )
    assert second.rewards == [0.25, None]


def test_a_most_probable_token_without_a_number_is_no_score(make_task: Callable[..., Task]) -> None:
    first, _ = grade(FakeTeacher(scores={-8: float("nan")}), GOOD, make_task, top_logprobs=3)
    assert first.teacher_top[0] is first.teacher_logprobs[0] is None
    assert first.grades[0].scores["teacher"].reason == "a log-probability of the best tokens at token 1 is nan"
    assert first.rewards == [None, -0.25]


def test_a_completion_without_tokens_has_no_score(make_task: Callable[..., Task]) -> None:
    first, _ = grade(FakeTeacher(), [*GOOD[:3], rollout("a", 1, ())], make_task)
    assert first.teacher_logprobs == ((-0.5, -1.0), ())
    score = first.grades[1].scores["teacher"]
    assert score == Score(
        value=None, status=Status.SKIPPED, reason="the completion has no tokens", seconds=score.seconds
    )


def test_too_many_failures_end_the_run(make_task: Callable[..., Task]) -> None:
    rollouts = [rollout("a", 0, (BAD,)), rollout("a", 1, (BAD,))]
    with pytest.raises(GradeError, match="grader 'teacher' failed on 1 of the last 1 completions"):
        grade(FakeTeacher(), rollouts, make_task, ids="a", max_fault_share=0.0)


def test_a_teacher_that_is_gone_ends_the_run(make_task: Callable[..., Task]) -> None:
    rollouts = [rollout("a", 0, (BAD,)), rollout("a", 1, (4,))]
    with pytest.raises(SamplersLost):
        grade(FakeTeacher(error=SamplersLost), rollouts, make_task, ids="a")


def test_incomplete_groups_are_refused(make_task: Callable[..., Task]) -> None:
    with pytest.raises(GradeError, match="the stream of rollouts ended with incomplete groups: a"):
        grade(FakeTeacher(), [GOOD[0], GOOD[1], GOOD[2]], make_task)
    with pytest.raises(ValueError, match="a task occurs twice"):
        grade(FakeTeacher(), GOOD, make_task, ids="aa")


def test_the_batches_of_the_loop_hold_the_scores(make_task: Callable[..., Task]) -> None:
    class Sampler:
        def sample(self, tasks: Sequence[Task], **_: Any) -> AsyncIterator[Rollout]:
            async def stream() -> AsyncIterator[Rollout]:
                for one in GOOD:
                    yield one

            return stream()

    class Order:
        def of_step(self, step: int) -> list[Task]:
            return [make_task("a"), make_task("b")]

    sampler: Any = Sampler()
    order: Any = Order()
    batcher = Batcher(
        sampler=sampler, panel=panel(FakeTeacher()), order=order, completions_per_prompt=2, temperature=1.0
    )

    async def job() -> Any:
        return await batcher.start(1)

    batch = asyncio.run(job())
    assert [group.teacher_logprobs for group in batch.groups] == [((-0.5, -1.0), (-0.75,)), ((-0.25,), (-0.5,))]
