"""The verdict on a run that has not started: go, go with changes or no-go, with reasons and remedies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rft.config import RunConfig
from rft.wording import plural

GO, CHANGES, NO_GO = "go", "go with changes", "no-go"
NOTHING_TO_LEARN = 0.95
"""Mean reward, as a part of its range, above which a run has nothing to learn."""
NO_SIGNAL = 0.1
"""Share of informative groups below which a run learns almost nothing."""
LITTLE_SIGNAL = 0.25
"""Share of informative groups below which most of a run's samples teach nothing."""
MANY_FAULTS = 0.05
"""Share of completions without a reward that is worth a warning."""
MANY_CUT = 0.25
"""Share of completions cut at the limit of tokens that is worth a warning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One reason for a verdict, with its remedy.

    Example:
        Reason(text="95.1% of the reward is reached already", remedy="take harder tasks", command="data.train=...",
               is_fatal=True)
    """

    text: str
    """What was found."""
    remedy: str
    """What to do."""
    command: str
    """The command, or the keys, that do it."""
    is_fatal: bool = False
    """Whether the run is not worth starting."""

    def to_json(self) -> dict[str, Any]:
        """Return `{"text": ..., "remedy": ..., "command": ..., "is_fatal": true}`."""
        return {"text": self.text, "remedy": self.remedy, "command": self.command, "is_fatal": self.is_fatal}


def verdict_of(report: Mapping[str, Any], run: RunConfig) -> tuple[str, list[Reason]]:
    """Return the verdict, and its reasons, the fatal ones first.

    Args:
        report: The measured parts of feasibility.json.
        run: The configuration of the run.
    """
    reasons = [*_signal(report, run), *_held_out(report), *_samples(report, run)]
    reasons.sort(key=lambda reason: not reason.is_fatal)
    if any(reason.is_fatal for reason in reasons):
        return NO_GO, reasons
    return CHANGES if reasons else GO, reasons


def _signal(report: Mapping[str, Any], run: RunConfig) -> Iterator[Reason]:
    """Yield reasons about the rewards: too high, too low, or too seldom different."""
    low, high = report["reward_range"]
    level = (report["reward"]["mean"] - low) / (high - low) if high > low else 0.0
    if level > NOTHING_TO_LEARN:
        yield Reason(
            text=f"the mean reward is {level:.1%} of the highest already: there is nothing to learn",
            remedy="take harder tasks, or a grader that tells good answers from better ones",
            command="rft feasibility ... data.train=<harder tasks>",
            is_fatal=True,
        )
        return
    informative = report["informative"]
    if informative is None or not run.learner.needs_differences:
        return
    share, size, half_at = informative["share"]["mean"], informative["group_size"], informative["half_at"]
    if share >= LITTLE_SIGNAL:
        return
    found = f"only {share:.1%} of the groups of {size} have different rewards"
    if half_at is not None and half_at > size:
        yield Reason(
            text=found,
            remedy=f"larger groups: with {half_at} completions, half of the groups have",
            command=f"loop.completions_per_prompt={half_at}",
        )
    elif share >= NO_SIGNAL:
        yield Reason(
            text=found,
            remedy="replace groups of equal rewards, or leave out tasks that are always or never solved",
            command="loop.refill_rounds=4, or loop.pass_rate.completions_per_task=16",
        )
    elif level < 0.5:
        yield Reason(
            text=f"{found}, and the mean reward is {level:.1%} of the highest: the tasks are too hard",
            remedy="warm start with demonstrations; or take easier tasks, or give partial credit",
            command="rft train learner=sft data.train=<demonstrations> output_dir=runs/warm ..., then start=runs/warm",
            is_fatal=True,
        )
    else:
        yield Reason(
            text=f"{found}: each task is solved always or never",
            remedy="take tasks of medium difficulty, or sample at a higher temperature",
            command=f"data.train=<other tasks>, or sampler.temperature={run.sampler.temperature + 0.2:g}",
            is_fatal=True,
        )


def _held_out(report: Mapping[str, Any]) -> Iterator[Reason]:
    """Yield a reason if the held-out tasks could not show a difference."""
    held_out = report["held_out"]
    smallest, wanted, needed = (held_out[key] for key in ("smallest_difference", "wanted_difference", "tasks_needed"))
    enough = f" of {needed:,} rows" if needed else ""
    if not held_out["tasks"]:
        yield Reason(
            text="there are no held-out tasks, so the run cannot show an improvement",
            remedy="give tasks that are not trained on",
            command=f"data.test=<file{enough}>, or data.validation_share=0.1",
        )
    elif needed is not None and (smallest is None or smallest > wanted):
        shows = "not even the largest difference" if smallest is None else f"only a difference of {smallest:.3f}"
        yield Reason(
            text=f"{plural(held_out['tasks'], 'held-out task')} can show {shows}, not {wanted:g}",
            remedy=f"{needed:,} held-out tasks show {wanted:g}; several samples of a task help, too",
            command=f"data.test=<file{enough}>, or evaluation.completions_per_task="
            f"{4 * held_out['completions_per_task']}",
        )


def _samples(report: Mapping[str, Any], run: RunConfig) -> Iterator[Reason]:
    """Yield reasons about completions without a reward, and about those that were cut."""
    sampled = report["sampled"]
    dropped = sum(sampled["without_reward"].values())
    if dropped > MANY_FAULTS * sampled["completions"]:
        causes = ", ".join(f"{cause} ({count})" for cause, count in sampled["without_reward"].items())
        yield Reason(
            text=f"{dropped / sampled['completions']:.1%} of the completions have no reward: {causes}",
            remedy="mend the grader; such completions teach nothing",
            command="rft audit data=<tasks> graders...",
        )
    if sampled["cut_share"] > MANY_CUT:
        yield Reason(
            text=f"{sampled['cut_share']:.1%} of the completions were cut at "
            f"{plural(run.sampler.max_completion_tokens, 'token')}",
            remedy="leave more room for an answer",
            command=f"sampler.max_completion_tokens={2 * run.sampler.max_completion_tokens}",
        )
