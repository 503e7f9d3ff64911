"""The panel: streaming, deadlines, faults, groups, rewards. Nothing waits on the clock but for deadlines of 50 ms."""

import asyncio
import dataclasses
import sys

import pytest

from rft.errors import GradeError, SampleError
from rft.grading import LoadedGrader, Score, Status, Task
from rft.grading.loading.binding import bind
from rft.grading.panel import Panel
from rft.types import Policy, Rollout, StopReason
from rft.waiting import current_wait

SAFETY_S = 60.0
"""Deadline of what must happen at once; a test that runs into it fails."""


def task(name):
    return Task(id=name, messages=({"role": "user", "content": "?"},), item={"answer": "1"}, split="train")


def rollout(name, index, text="1"):
    return Rollout(
        task_id=name,
        index=index,
        prompt_ids=(1,),
        completion_ids=(2,),
        logprobs=(0.0,),
        text=text,
        stop=StopReason.STOP,
        policy=Policy(version=0, fingerprint="f"),
    )


def grader(call, *, name="g", weight=1.0, timeout_s=SAFETY_S, per_group=False, **others):
    takes, problems = bind(call, per_group=per_group)
    assert not problems
    return LoadedGrader(
        name=name,
        weight=weight,
        timeout_s=timeout_s,
        call=call,
        takes=takes,
        per_group=per_group,
        use=name,
        file=__file__,
        sha256="0",
        **others,
    )


async def stream(*rollouts):
    for one in rollouts:
        yield one


def grade(graders, rollouts, *, names=("a",), size=1, **options):
    """Grade a stream with a new panel."""

    async def main():
        panel = Panel(graders, **options)
        try:
            return await panel.grade([task(name) for name in names], rollouts, rollouts_per_task=size)
        finally:
            panel.close()

    return asyncio.run(main())


def grade_one(*graders):
    """Grade one rollout of one task with a budget that never runs out."""
    (group,) = grade(graders, stream(rollout("a", 0)), max_fault_share=1.0)
    return group.grades[0]


def raising(completion):
    raise KeyError("no such key")


async def raising_async(completion):
    raise KeyError("no such key")


async def timing_out_itself(completion):
    raise TimeoutError("the judge did not answer")


async def cancelling(completion):
    raise asyncio.CancelledError


def exiting(completion):
    sys.exit(3)


async def exiting_async(completion):
    sys.exit(3)


def stopping(completion):
    raise StopIteration


@pytest.mark.parametrize(
    ("call", "status", "reason"),
    [
        (lambda completion: 0.5, Status.OK, None),
        (lambda completion: Score(value=0.0, status=Status.NO_ANSWER), Status.NO_ANSWER, None),
        (lambda completion: Score(value=0.0, status=Status.INVALID_OUTPUT), Status.INVALID_OUTPUT, None),
        (lambda completion: None, Status.SKIPPED, None),
        (lambda completion: "1.0", Status.GRADER_ERROR, "returned the str '1.0'; a grader returns a finite number"),
        (lambda completion: Score(value=float("nan")), Status.GRADER_ERROR, "ValueError: a score must be finite"),
        (raising, Status.GRADER_ERROR, "KeyError: 'no such key' (tests/grading/test_panel.py:"),
        (raising_async, Status.GRADER_ERROR, "KeyError: 'no such key' (tests/grading/test_panel.py:"),
        (timing_out_itself, Status.GRADER_ERROR, "TimeoutError: the judge did not answer (tests/grading/test_panel.py"),
        (cancelling, Status.GRADER_ERROR, "RuntimeError: the grader cancelled itself"),
        (exiting, Status.GRADER_ERROR, "it called sys.exit(3) (tests/grading/test_panel.py:"),
        (exiting_async, Status.GRADER_ERROR, "RuntimeError: it called sys.exit(3) (tests/grading/test_panel"),
        (stopping, Status.GRADER_ERROR, "StopIteration"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_every_status(call, status, reason):
    graded = grade_one(grader(call))
    score = graded.scores["g"]
    assert score.status is status
    assert (score.value is None) == (not status.has_value)
    assert graded.reward == score.value
    assert reason is None or reason in score.reason
    assert 0.0 <= score.seconds < SAFETY_S


def test_an_async_grader_that_never_ends_times_out():
    async def hanging(completion):
        await asyncio.Event().wait()

    async def stubborn(completion):
        for _ in range(2):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    for call in (hanging, stubborn):
        score = grade_one(grader(call, timeout_s=0.05)).scores["g"]
        assert (score.value, score.status, score.reason) == (None, Status.TIMEOUT, "no result within 0.05 s")


def test_the_deadline_starts_with_the_call_not_with_the_queue():
    async def hanging_once(rollout):
        if rollout.index == 0:
            await asyncio.Event().wait()
        return 1.0

    # One call at a time: the second waits in the queue for as long as the first's deadline, and its own is the same.
    rollouts = stream(rollout("a", 0), rollout("a", 1))
    (group,) = grade([grader(hanging_once, timeout_s=0.05)], rollouts, size=2, max_concurrency=1, max_fault_share=1.0)
    assert [one.scores["g"].status for one in group.grades] == [Status.TIMEOUT, Status.OK]


def test_grading_begins_while_sampling_goes_on():
    graded = asyncio.Event()

    async def signalling(completion):
        graded.set()
        return 1.0

    async def sampler():
        yield rollout("a", 0)
        await asyncio.wait_for(graded.wait(), SAFETY_S)  # the second is sampled once the first is graded
        yield rollout("a", 1)

    (group,) = grade([grader(signalling)], sampler(), size=2)
    assert group.rewards == [1.0, 1.0]


def test_a_group_is_graded_as_soon_as_it_is_complete():
    graded = asyncio.Event()

    async def signalling(completions):
        graded.set()
        return [float(text) for text in completions]

    async def sampler():
        yield rollout("b", 1, "4")
        yield rollout("a", 0, "1")
        assert not graded.is_set()
        yield rollout("b", 0, "3")
        await asyncio.wait_for(graded.wait(), SAFETY_S)
        yield rollout("a", 1, "2")

    a, b = grade([grader(signalling, per_group=True)], sampler(), names=("a", "b"), size=2)
    assert (a.task.id, a.rewards, b.task.id, b.rewards) == ("a", [1.0, 2.0], "b", [3.0, 4.0])
    assert [one.index for one in b.rollouts] == [0, 1]


def test_a_grader_of_groups_fails_for_all_of_its_group_and_for_no_other():
    def picky(completions, rollouts, task):
        assert [one.text for one in rollouts] == completions
        return [0.0] if task.id == "a" else [1.0, 2.0]

    rollouts = stream(*(rollout(name, index) for name in "ab" for index in (1, 0)))
    a, b = grade([grader(picky, per_group=True)], rollouts, names="ab", size=2, max_fault_share=1.0)
    assert [one.scores["g"].status for one in a.grades] == [Status.GRADER_ERROR] * 2
    assert b.rewards == [1.0, 2.0]


def test_the_order_of_the_stream_does_not_matter():
    rollouts = [rollout(name, index, f"{ord(name) + index}") for name in "abc" for index in range(3)]
    graders = [grader(lambda completion: int(completion))]
    forwards = grade(graders, stream(*rollouts), names="abc", size=3)
    backwards = grade(graders, stream(*reversed(rollouts)), names="abc", size=3)
    assert [group.rewards for group in forwards] == [[97, 98, 99], [98, 99, 100], [99, 100, 101]]
    assert [group.rewards for group in backwards] == [group.rewards for group in forwards]
    assert [group.rollouts for group in backwards] == [group.rollouts for group in forwards]


@pytest.mark.parametrize(
    ("values", "weights", "reward"),
    [
        ([1.0, 0.5], [1.0, 0.5], 1.25),
        ([1.0, 0.5], [1.0, -1.0], 0.5),
        ([1.0, None], [1.0, 0.5], None),
        ([None, 1.0], [1.0, 0.5], None),
        ([1.0, None], [1.0, 0.0], 1.0),
        ([1.0, 7.0], [1.0, 0.0], 1.0),
        ([None, None], [0.0, 0.0], 0.0),
    ],
)
def test_the_reward_is_the_weighted_sum(values, weights, reward):
    graders = [
        grader(lambda value=value: value, name=f"g{index}", weight=weight)
        for index, (value, weight) in enumerate(zip(values, weights, strict=True))
    ]
    graded = grade_one(*graders)
    assert graded.reward == reward
    assert list(graded.scores) == ["g0", "g1"]


def test_one_graders_failure_is_not_anothers():
    graded = grade_one(grader(raising, name="bad", weight=0.0), grader(lambda: 1, name="good"))
    assert graded.scores["bad"].status is Status.GRADER_ERROR
    assert graded.reward == 1.0


@pytest.mark.parametrize(
    ("rollouts", "message"),
    [
        ([rollout("a", 0), rollout("a", 1), rollout("b", 1)], "ended with incomplete groups: task b: 1 of 2"),
        ([], "incomplete groups: task a: 0 of 2; task b: 0 of 2"),
        ([rollout("a", 0), rollout("a", 0)], "task a: rollout 0 arrived twice, or is not in 0 to 1"),
        ([rollout("a", 2)], "task a: rollout 2 arrived twice, or is not in 0 to 1"),
        ([rollout("z", 0)], "a rollout of task z arrived, but the task is not to be graded"),
    ],
)
def test_a_stream_that_does_not_fit_the_tasks(rollouts, message):
    with pytest.raises(GradeError, match=message):
        grade([grader(lambda: 1)], stream(*rollouts), names="ab", size=2)


def test_an_error_of_the_stream_comes_through_with_its_cause():
    async def failing():
        yield rollout("a", 0)
        raise SampleError("sampler 0 died") from OSError("no memory")

    with pytest.raises(SampleError, match="sampler 0 died") as caught:
        grade([grader(lambda: 1)], failing(), size=2)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_task_that_is_there_twice_and_graders_that_share_a_name():
    with pytest.raises(ValueError, match="a task occurs twice"):
        grade([grader(lambda: 1)], stream(), names="aa")
    with pytest.raises(ValueError, match="share a name: g, g"):
        Panel([grader(lambda: 1), grader(lambda: 2)])


def test_a_run_of_failures_stops_the_run_without_waiting_for_the_stream():
    async def endless():
        for index in range(3):
            yield rollout("a", index)
        await asyncio.wait_for(asyncio.Event().wait(), SAFETY_S)

    with pytest.raises(GradeError, match="grader 'g' failed on 3 of the last 3 completions") as caught:
        grade([grader(raising)], endless(), size=4)
    assert "  - task a: KeyError: 'no such key' (tests/grading/test_panel.py:" in str(caught.value)


def test_the_budget_spans_steps():
    bad = iter([True, False, True, False, True, False])

    def sometimes(completion):
        return None if not next(bad) else "nonsense"

    async def main():
        panel = Panel([grader(sometimes)], max_concurrency=1)
        for step in range(3):
            rollouts = stream(rollout("a", 0), rollout("a", 1))
            try:
                await panel.grade([task("a")], rollouts, rollouts_per_task=2)
            except GradeError as error:
                return step, str(error)

    step, message = asyncio.run(main())
    assert step == 2
    assert "failed on 3 of the last 5 completions" in message


def test_concurrency_is_bounded_and_used():
    running, most = 0, 0

    async def counting(completion):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return 1

    grade([grader(counting)], stream(*(rollout("a", index) for index in range(20))), size=20, max_concurrency=4)
    assert most == 4


def test_graders_see_what_they_ask_for_and_waits_have_names():
    seen = {}

    async def curious(task, rollout, completion):
        seen.update(task=task.id, rollout=rollout.index, completion=completion, wait=current_wait().what)
        return 1

    grade([grader(curious)], stream(rollout("a", 0, "hello")))
    assert seen == {"task": "a", "rollout": 0, "completion": "hello", "wait": "grader 'g' on task a"}


def test_a_sync_callable_that_returns_an_awaitable_is_awaited():
    async def answer():
        return 0.5

    assert grade_one(grader(lambda: answer())).reward == 0.5


def test_cancelling_the_panel_cancels_the_graders():
    cancelled = []

    async def hanging(completion):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(completion)
            raise

    async def main():
        panel = Panel([grader(hanging)])
        grading = asyncio.create_task(panel.grade([task("a")], stream(rollout("a", 0)), rollouts_per_task=1))
        while current_wait() is None:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        grading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await grading
        await asyncio.sleep(0)

    asyncio.run(main())
    assert cancelled == ["1"]


def test_scores_are_kept_whole():
    score = Score(value=0.5, reason="half", answer="4")
    kept = grade_one(grader(lambda: score)).scores["g"]
    assert dataclasses.replace(kept, seconds=0.0) == score


def test_the_graders_of_a_family_score_its_tasks():
    called = []

    def counted(name, value):
        def call(task):
            called.append((name, task.id))
            return value

        return grader(call, name=name, weight=2.0)

    async def main():
        panel = Panel(
            [counted("exact", 1.0), counted("style", 0.25)],
            families={"sums": ["exact"], "essays": ["style", "exact"]},
        )
        tasks = [dataclasses.replace(task(name), family=name.partition("/")[0]) for name in ("sums/1", "essays/1")]
        try:
            return await panel.grade(tasks, stream(rollout("sums/1", 0), rollout("essays/1", 0)), rollouts_per_task=1)
        finally:
            panel.close()

    sums, essays = asyncio.run(main())
    assert [list(group.grades[0].scores) for group in (sums, essays)] == [["exact"], ["exact", "style"]]
    assert (sums.rewards, essays.rewards) == ([2.0], [2.5])
    assert sorted(called) == [("exact", "essays/1"), ("exact", "sums/1"), ("style", "essays/1")]
