"""What the tasks give away, and whether recorded completions leave anything to learn."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Sequence

from rft.auditing.answers import choices_of, message_text, short
from rft.auditing.cases import Case, Graded
from rft.auditing.findings import Finding, failed, not_applicable, passed, warned
from rft.auditing.probe import Probe
from rft.auditing.subject import Subject
from rft.types import StopReason, Task

MIN_CHARS = 4
"""Shorter references are in many prompts by chance."""
LEAKED = 0.5
MIN_INFORMATIVE = 0.2
MAX_RECORDED = 2_000


async def the_prompt_keeps_it(subject: Subject) -> Finding:
    """The reference is not in the prompt."""
    tasks = [task for task in subject.solved if choices_of(task) is None]
    if not tasks:
        return not_applicable("no task has a reference that its prompt should not hold")
    told, there = [], []
    for task in tasks:
        text, right = "\n".join(message_text(one.get("content")) for one in task.messages), short(subject.answer(task))
        marked = rf"(?i)(?:answer(?: is|:)|####|solution:|\\boxed\{{)\s*{re.escape(right)}(?!\w)"
        if right and re.search(marked, text):
            told.append(task)
        elif len(right) >= MIN_CHARS and re.search(rf"(?<!\w){re.escape(right)}(?!\w)", text):
            there.append(task)
    graded = {one.case.task.id: one for one in subject.right}
    figures = {"tasks": len(tasks), "told": len(told), "there": len(there)}
    if told:
        said = f"{len(told)} of {len(tasks)} prompts state the reference as the answer"
        return failed(said, [graded[task.id] for task in told], **figures)
    if len(there) > LEAKED * len(tasks):
        said = f"{len(there)} of {len(tasks)} prompts hold the reference word for word; is that the task?"
        return warned(said, [graded[task.id] for task in there], **figures)
    return passed(f"no prompt of {len(tasks)} states the reference as its answer", **figures)


async def there_is_signal(subject: Subject) -> Finding:
    """Completions of one task differ in reward."""
    if not subject.recorded:
        return not_applicable("no recorded completions of the base model (give them with completions=<run or file>)")
    groups = await _grade_recorded(subject)
    means = [subject.mean(graded, subject.total_share) for graded in groups]
    mean = statistics.fmean(means)
    between = statistics.fmean(float(0.0 < one < 1.0) for one in means)
    size = min(subject.completions_per_prompt, max(len(graded) for graded in groups))
    usable = [graded for graded in groups if len(graded) >= size > 1]
    figures = {"tasks": len(groups), "mean": mean, "between": between, "group_size": size}
    if not usable:
        return not_applicable(f"one completion a task is too few to compare (mean {mean:.2f} of the range)")
    informative = statistics.fmean(
        informative_probability([one.grade.reward for one in graded], size) for graded in usable
    )
    figures["informative"] = informative
    said = (
        f"the base model earns {mean:.2f} of the range; {informative:.0%} of groups of {size} have rewards that "
        f"differ, and {between:.0%} of the tasks are solved sometimes"
    )
    if mean <= 0.0 or mean > 0.95:
        return failed(
            f"{said}: there is nothing to learn from", [one for graded in usable[:3] for one in graded[:1]], **figures
        )
    if informative < MIN_INFORMATIVE:
        return warned(f"{said}: most steps will teach little", (), **figures)
    return passed(said, **figures)


async def cut_completions(subject: Subject) -> Finding:
    """Recorded completions that were cut earn nothing."""
    cut = [
        Case(task=task, completion=one.text, note="cut at max_completion_tokens")
        for task, some in subject.recorded
        for one in some
        if one.stop is StopReason.LENGTH
    ]
    if not cut:
        return not_applicable("there is no recorded completion that was cut at its limit")
    graded = await subject.bench.grade(cut[:MAX_RECORDED])
    paid = subject.paid(graded)
    if paid:
        return warned(f"{len(paid)} of {len(graded)} completions that were cut are paid; had they said all?", paid)
    return passed(f"none of {len(graded)} completions that were cut is paid", cases=len(graded))


def informative_probability(rewards: Sequence[float | None], size: int) -> float:
    """The probability that `size` of these completions, drawn without putting back, do not all have one reward.

    Unbiased where n of them are at hand: 1 - sum over values v of C(n_v, size) / C(n, size); for two values this is
    1 - [C(c, G) + C(n - c, G)] / C(n, G).
    """
    known = [reward for reward in rewards if reward is not None]
    if len(known) < size:
        return float(len(set(known)) > 1)
    return 1.0 - sum(math.comb(count, size) for count in Counter(known).values()) / math.comb(len(known), size)


async def _grade_recorded(subject: Subject) -> list[list[Graded]]:
    """The recorded completions graded, task by task; texts that are there twice count twice."""
    by_task: dict[str, tuple[Task, list[str]]] = {}
    total = 0
    for task, rollouts in subject.recorded:
        for rollout in rollouts:
            if total < MAX_RECORDED:
                by_task.setdefault(task.id, (task, []))[1].append(rollout.text)
                total += 1
    return [
        await subject.bench.grade([Case(task=task, completion=text, note="recorded") for text in texts])
        for task, texts in by_task.values()
    ]


PROBES = (
    Probe(
        name="gold leakage",
        family="data",
        why="A prompt that holds its answer teaches to copy; answers shipped with the tests are among the ways in "
        "which agent benchmarks were beaten (Berkeley RDI, How We Broke Top AI Agent Benchmarks, 2026).",
        how="Each reference is looked for in its prompt, tool output and system message included.",
        threshold="fails if a prompt states it as the answer; warns if more than half of the prompts hold it",
        remedy="Take it out of the prompt.",
        look=the_prompt_keeps_it,
    ),
    Probe(
        name="signal",
        family="data",
        why="Where all completions of a task earn the same, group-relative training learns nothing from it.",
        how="Recorded completions of the base model are graded; the share of groups whose rewards differ is estimated "
        "task by task, without bias.",
        threshold="fails if the mean is 0 or above 95% of the range; warns below 20% of informative groups",
        remedy="Tasks of medium difficulty, larger groups, or partial credit.",
        look=there_is_signal,
    ),
    Probe(
        name="cut completions",
        family="data",
        why="If completions that ran into the limit are paid, the limit is what is learned.",
        how="Recorded completions that ended at max_completion_tokens are graded.",
        threshold="warns if any earns more than 10% of full marks",
        remedy="Raise max_completion_tokens, or refuse rollout.stop == 'length'.",
        look=cut_completions,
    ),
)
