"""Probes of the tasks: leaked references, and recorded completions without a training signal."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Sequence

from rft.auditing.answers import choices_of, message_text, short
from rft.auditing.cases import Case, GradedCase
from rft.auditing.findings import Finding, failed, not_applicable, passed, warned
from rft.auditing.grader_profile import GraderProfile
from rft.auditing.probe import Probe
from rft.turns import PASSAGES
from rft.types import StopReason, Task

MIN_CHARS = 4
"""Many prompts contain a shorter reference by chance."""
LEAKED = 0.5
MIN_INFORMATIVE = 0.2
MAX_RECORDED = 2_000


async def gold_leakage(profile: GraderProfile) -> Finding:
    """Check that the prompt does not contain the reference."""
    tasks = [task for task in profile.solved if choices_of(task) is None and PASSAGES not in task.item]
    if not tasks:
        return not_applicable("no task has a reference, tasks with options or passages excluded")
    stating, containing = [], []
    for task in tasks:
        text, right = (
            "\n".join(message_text(message.get("content")) for message in task.messages),
            short(profile.answer(task)),
        )
        marked = rf"(?i)(?:answer(?: is|:)|####|solution:|\\boxed\{{)\s*{re.escape(right)}(?!\w)"
        if right and re.search(marked, text):
            stating.append(task)
        elif len(right) >= MIN_CHARS and re.search(rf"(?<!\w){re.escape(right)}(?!\w)", text):
            containing.append(task)
    graded = {result.case.task.id: result for result in profile.right}
    figures = {"tasks": len(tasks), "stating": len(stating), "containing": len(containing)}
    if stating:
        message = f"{len(stating)} of {len(tasks)} prompts state the reference as the answer"
        return failed(message, [graded[task.id] for task in stating], **figures)
    if len(containing) > LEAKED * len(tasks):
        message = f"{len(containing)} of {len(tasks)} prompts contain the reference verbatim; check the tasks"
        return warned(message, [graded[task.id] for task in containing], **figures)
    return passed(f"no prompt of {len(tasks)} states the reference as its answer", **figures)


async def signal(profile: GraderProfile) -> Finding:
    """Measure how often the completions of a task differ in reward."""
    if not profile.recorded:
        return not_applicable("no recorded completions of the base model (set completions=<run or file>)")
    groups = await _grade_recorded(profile)
    means = [profile.mean(graded, profile.total_share) for graded in groups]
    mean = statistics.fmean(means)
    between = statistics.fmean(float(0.0 < share < 1.0) for share in means)
    size = min(profile.completions_per_prompt, max(len(graded) for graded in groups))
    usable = [graded for graded in groups if len(graded) >= size > 1]
    figures = {"tasks": len(groups), "mean": mean, "between": between, "group_size": size}
    if not usable:
        return not_applicable(f"each task has only one completion (mean {mean:.2f} of the range)")
    informative = statistics.fmean(
        informative_probability([result.grade.reward for result in graded], size) for graded in usable
    )
    figures["informative"] = informative
    message = (
        f"the base model earns {mean:.2f} of the range; {informative:.0%} of groups of {size} have different "
        f"rewards, and {between:.0%} of the tasks have a mean reward between the ends of the range"
    )
    if mean <= 0.0 or mean > 0.95:
        return failed(
            f"{message}: training would learn nothing",
            [result for graded in usable[:3] for result in graded[:1]],
            **figures,
        )
    if informative < MIN_INFORMATIVE:
        return warned(f"{message}: most steps would learn little", (), **figures)
    return passed(message, **figures)


async def cut_completions(profile: GraderProfile) -> Finding:
    """Check that recorded completions cut at the limit earn nothing."""
    cut = [
        Case(task=task, completion=rollout.text, note="cut at max_completion_tokens")
        for task, rollouts in profile.recorded
        for rollout in rollouts
        if rollout.stop is StopReason.LENGTH
    ]
    if not cut:
        return not_applicable("no recorded completion was cut at its limit")
    graded = await profile.panel.grade(cut[:MAX_RECORDED])
    paid = profile.paid(graded)
    if paid:
        return warned(
            f"{len(paid)} of {len(graded)} completions cut at the limit are paid; check that they are complete", paid
        )
    return passed(f"none of {len(graded)} completions cut at the limit is paid", cases=len(graded))


def informative_probability(rewards: Sequence[float | None], size: int) -> float:
    """Return the probability that `size` completions, drawn without replacement, have different rewards.

    Unbiased for n completions: 1 - sum over values v of C(n_v, size) / C(n, size); for two values this is
    1 - [C(c, G) + C(n - c, G)] / C(n, G).
    """
    known = [reward for reward in rewards if reward is not None]
    if len(known) < size:
        return float(len(set(known)) > 1)
    return 1.0 - sum(math.comb(count, size) for count in Counter(known).values()) / math.comb(len(known), size)


async def _grade_recorded(profile: GraderProfile) -> list[list[GradedCase]]:
    """Grade the recorded completions, task by task. A repeated text counts each time."""
    by_task: dict[str, tuple[Task, list[str]]] = {}
    total = 0
    for task, rollouts in profile.recorded:
        for rollout in rollouts:
            if total < MAX_RECORDED:
                by_task.setdefault(task.id, (task, []))[1].append(rollout.text)
                total += 1
    return [
        await profile.panel.grade([Case(task=task, completion=text, note="recorded") for text in texts])
        for task, texts in by_task.values()
    ]


PROBES = (
    Probe(
        name="gold leakage",
        family="data",
        why="A prompt that contains its answer teaches the model to copy. Answers shipped with the tests broke agent "
        "benchmarks (Berkeley RDI, How We Broke Top AI Agent Benchmarks, 2026).",
        how="A search for each reference in its prompt, including tool output and system message.",
        threshold="fails if a prompt states the reference as the answer; warns if more than half of the prompts "
        "contain their reference",
        remedy="Remove the reference from the prompt.",
        run=gold_leakage,
    ),
    Probe(
        name="signal",
        family="data",
        why="Group-relative training learns nothing from a task whose completions all earn the same reward.",
        how="Recorded completions of the base model, with an unbiased estimate per task of the share of groups whose "
        "rewards differ.",
        threshold="fails if the mean reward is 0 or above 95% of the range; warns below 20% of informative groups",
        remedy="Choose tasks of medium difficulty, larger groups, or partial credit.",
        run=signal,
    ),
    Probe(
        name="cut completions",
        family="data",
        why="If a grader pays completions that were cut at the limit, the model learns to reach the limit.",
        how="Recorded completions that ended at max_completion_tokens.",
        threshold="warns if any earns more than 10% of full marks",
        remedy="Raise max_completion_tokens, or give no reward if rollout.stop == 'length'.",
        run=cut_completions,
    ),
)
