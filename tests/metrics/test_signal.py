"""The watch warns once per drought, and says which kind of drought it is."""

from collections.abc import Sequence

from rft.metrics.signal import SignalWatch
from rft.types import Grade, GradedGroup, Policy, Rollout, Score, Split, Status, StopReason, Task

TASK = Task(id="t", messages=({"role": "user", "content": "?"},), item={}, split=Split.TRAIN)


def group(*rewards: float | None) -> GradedGroup:
    rollouts = tuple(
        Rollout(
            task_id="t", index=index, prompt_ids=(1,), completion_ids=(2,), logprobs=(-0.1,), text="x",
            stop=StopReason.STOP, policy=Policy(version=0, fingerprint="f"),
        )
        for index in range(len(rewards))
    )  # fmt: skip
    grades = tuple(
        Grade(scores={"g": Score(value=r, status=Status.OK if r is not None else Status.TIMEOUT)}, reward=r)
        for r in rewards
    )
    return GradedGroup(task=TASK, rollouts=rollouts, grades=grades)


def warnings(watch: SignalWatch, steps: Sequence[Sequence[GradedGroup]]) -> list[int]:
    """The steps, from 1, at which the watch warned."""
    return [step for step, groups in enumerate(steps, 1) if watch.observe(groups) is not None]


def test_warns_once_when_patience_runs_out_and_again_after_signal_came_back() -> None:
    dead, alive = [group(0.0, 0.0), group(0.0, 0.0)], [group(0.0, 0.0), group(0.0, 1.0)]
    assert warnings(SignalWatch(3), [dead] * 9) == [3]
    assert warnings(SignalWatch(3), [dead, dead, alive, dead, dead, dead, dead]) == [6]
    assert warnings(SignalWatch(3), [*[dead] * 5, alive, *[dead] * 5]) == [3, 9]


def test_a_dropped_reward_is_no_signal() -> None:
    assert warnings(SignalWatch(2), [[group(1.0, None, 1.0)]] * 2) == [2]


def test_says_whether_it_is_too_hard_too_easy_or_all_or_nothing() -> None:
    too_hard = SignalWatch(1).observe([group(0.0, 0.0)])
    too_easy = SignalWatch(1).observe([group(1.0, 1.0), group(1.0, 1.0)])
    flat = SignalWatch(1).observe([group(0.5, 0.5)])
    mixed = SignalWatch(1).observe([group(0.0, 0.0), group(1.0, 1.0)])
    nothing = SignalWatch(1).observe([group(None, None)])
    assert too_hard is not None and "All rewards are 0: the tasks are too hard" in too_hard
    assert too_easy is not None and "All rewards are 1: the tasks are too easy" in too_easy
    assert flat is not None and "All rewards are 0.5: the grader does not distinguish" in flat
    assert mixed is not None and "solves each task always or never" in mixed
    assert nothing is not None and "no completion received a reward" in nothing
    assert all("training has no effect" in text for text in (too_hard, too_easy, flat, mixed, nothing))


def test_the_values_of_an_earlier_drought_are_forgotten() -> None:
    watch = SignalWatch(1)
    watch.observe([group(1.0, 1.0)])
    watch.observe([group(0.0, 1.0)])
    warning = watch.observe([group(0.0, 0.0)])
    assert warning is not None and "All rewards are 0" in warning
