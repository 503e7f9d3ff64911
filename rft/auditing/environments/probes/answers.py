"""Probes of the answer: does the policy hear it, or can its programs read it?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rft.auditing.environments.episodes import Episode
from rft.auditing.environments.policies import FREE, RANDOM
from rft.auditing.environments.processes import descendants, readable
from rft.auditing.environments.profile import NUM_TASKS, EnvironmentProfile
from rft.auditing.findings import Finding, failed, not_applicable, passed, warned
from rft.auditing.probe import Probe
from rft.grading.loading.targets import did_you_mean
from rft.types import Task

FAIL_ABOVE, WARN_ABOVE = 0.5, 0.2
MIN_TASKS = 3


async def in_sight(profile: EnvironmentProfile) -> Finding:
    """Search what the policy hears for the reference, before the policy has said it itself."""
    if (why := _without_references(profile)) is not None:
        return not_applicable(why)
    episodes = [*profile.sound]
    episodes += [await profile.player.play(task, FREE[0], number=len(RANDOM)) for task in profile.tasks[:NUM_TASKS]]
    texts = {task.id: "" for task in profile.tasks[:NUM_TASKS]}
    for episode in episodes:
        texts[episode.task.id] += "\n".join(_before_it_was_said(profile, episode)) + "\n"
    return _judged(profile, texts, "of what the policy hears before it has said it", episodes)


async def within_reach(profile: EnvironmentProfile) -> Finding:
    """Search what the programs that the environment starts can read for the reference."""
    if (why := _without_references(profile)) is not None:
        return not_applicable(why)
    texts: dict[str, str] = {}
    for task in profile.tasks[:NUM_TASKS]:
        seen: list[str] = []

        async def look(turn: int, seen: list[str] = seen) -> None:
            seen += [readable(child) for pid in profile.player.workers.pids for child in descendants(pid)]

        for number, policy in enumerate(RANDOM):
            await profile.player.play(task, policy, number=number, turned=look)
        texts[task.id] = "\n".join(seen)
    if not any(texts.values()):
        return not_applicable("the environment starts no processes that live from turn to turn")
    return _judged(profile, texts, "of what the environment's programs can read", [])


def _without_references(profile: EnvironmentProfile) -> str | None:
    known = [task for task in profile.tasks[:NUM_TASKS] if profile.reference(task) is not None]
    if len({profile.reference(task) for task in known}) >= MIN_TASKS:
        return None
    if known:
        return f"the first {NUM_TASKS} tasks have fewer than {MIN_TASKS} different references ({profile.gold})"
    columns = list(dict.fromkeys(name for task in profile.tasks for name in task.item))
    present = f"the columns are {', '.join(columns)}" if columns else "the rows have no columns"
    return f"no task has the column '{profile.gold}'{did_you_mean(profile.gold, columns)}; set gold to one ({present})"


def _before_it_was_said(profile: EnvironmentProfile, episode: Episode) -> Iterable[str]:
    reference = profile.reference(episode.task)
    for turn in range(len(episode.heard)):
        if reference is not None and any(_holds(reply.text, reference) for reply in episode.replies[:turn]):
            return
        yield from episode.texts(turn) if turn == 0 else [str(message["content"]) for message in episode.heard[turn]]


def _holds(text: str, reference: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(reference.strip())}(?!\w)", text) is not None


def _judged(profile: EnvironmentProfile, texts: dict[str, str], what: str, episodes: Sequence[Episode]) -> Finding:
    """Compare how often a text holds the reference of its own task, and that of another task."""
    tasks = [task for task in profile.tasks[:NUM_TASKS] if profile.reference(task) is not None]
    own = [task for task in tasks if _holds(texts[task.id], profile.reference(task) or "")]
    others = [task for task in tasks if _holds(texts[task.id], _other_reference(profile, tasks, task))]
    excess = (len(own) - len(others)) / len(tasks)
    figures = {"tasks": len(tasks), "own": len(own), "others": len(others)}
    message = (
        f"the reference ({profile.gold}) is part {what} in {len(own)} of {len(tasks)} tasks, and that of another task "
        f"in {len(others)}"
    )
    shown = [episode for episode in episodes if episode.task in own]
    if excess > FAIL_ABOVE:
        return failed(message, shown, **figures)
    return warned(message, shown, **figures) if excess > WARN_ABOVE else passed(message, **figures)


def _other_reference(profile: EnvironmentProfile, tasks: Sequence[Task], task: Task) -> str:
    start, own = tasks.index(task), profile.reference(task)
    following = (profile.reference(other) for other in [*tasks[start + 1 :], *tasks[:start]])
    return next(reference for reference in following if reference is not None and reference != own)


_REMEDY = "Keep the reference in the environment; say it only when the episode has ended."
PROBES = (
    Probe(
        name="answer in sight",
        family="answer",
        why="A policy copies an answer that stands in its prompt or in an observation, and learns nothing else.",
        how="The prompts, observations and errors of ordinary episodes and of idle ones, up to the turn in which the "
        "policy says the reference itself; the reference of another task shows what is chance.",
        threshold="fails if the own reference occurs in more than half of the tasks above chance; warns above a fifth",
        remedy=_REMEDY,
        run=in_sight,
    ),
    Probe(
        name="answer within reach",
        family="answer",
        why="A policy that runs programs reads the reference where it lies (huggingface/Repo2RLEnv#144).",
        how="Arguments, environment variables and nearby files of the processes that the environment starts, at every "
        "turn of ordinary episodes.",
        threshold="fails if the own reference occurs in more than half of the tasks above chance; warns above a fifth",
        remedy="Give programs that the policy controls neither the row nor a folder that holds it.",
        run=within_reach,
    ),
)
