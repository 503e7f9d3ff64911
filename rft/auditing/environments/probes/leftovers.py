"""Probes of what episodes leave behind: tasks, processes, open files and sockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from rft.auditing.environments.policies import RANDOM, repeating
from rft.auditing.environments.processes import Held, held
from rft.auditing.environments.profile import NUM_TASKS, EnvironmentProfile
from rft.auditing.findings import Finding, failed, not_applicable, passed
from rft.auditing.probe import Probe

ROUNDS = 2


async def open_at_end(profile: EnvironmentProfile) -> Finding:
    """Play episodes to their end, and count what stays open."""

    async def play() -> None:
        for task in profile.tasks[:NUM_TASKS]:
            await profile.player.play(task, RANDOM[1])

    return await _grown(profile, play, min(NUM_TASKS, len(profile.tasks)), "played to their end")


async def cancelled(profile: EnvironmentProfile) -> Finding:
    """Cancel episodes at every turn: while the environment awaits the policy, and while it works on a reply."""
    if not profile.sound:
        return not_applicable("no ordinary episode ends without a fault")
    longest = max(profile.sound, key=lambda episode: len(episode.replies))
    policy, turns = repeating(longest.replies), len(longest.replies)

    async def cancel() -> None:
        pids = profile.player.workers.pids
        for turn in range(turns):
            if profile.player.workers.pids != pids:
                return
            await profile.player.play(longest.task, policy, seed=longest.seed, stop_at=turn)
            await profile.player.cancel(longest.task, policy, after=turn)

    return await _grown(profile, cancel, 2 * turns, "cancelled at every turn")


async def _grown(profile: EnvironmentProfile, play: Callable[[], Awaitable[None]], episodes: int, how: str) -> Finding:
    """Compare what the process holds before and after; the first round opens what stays open for good."""
    pids = profile.player.workers.pids
    await play()
    before = after = await _held(profile)
    for _ in range(ROUNDS):
        if profile.player.workers.pids == pids:
            await play()
            after = await _held(profile)
    if profile.player.workers.pids != pids:
        return failed(f"episodes that were {how} did not close in time, so their process was killed")
    if grown := after.more_than(before):
        numbers = ", ".join(f"{number} {name}" for name, number in grown.items())
        message = f"{ROUNDS * episodes} episodes that were {how} left open: {numbers}"
        return failed(message, (), **grown)
    return passed(f"{ROUNDS * episodes} episodes that were {how} left nothing open", episodes=(ROUNDS + 1) * episodes)


async def _held(profile: EnvironmentProfile) -> Held:
    workers = profile.player.workers
    return held(workers.pids, await workers.count_left())


PROBES = (
    Probe(
        name="left open",
        family="resources",
        why="What every episode leaves open exhausts a machine or a server within a run (huggingface/OpenEnv#1000).",
        how="Episodes to their end, three times; tasks, processes, open files and sockets after the first round and "
        "after the last.",
        threshold="fails if their number grows",
        remedy="Close everything in a finally block, and await the tasks that you start.",
        run=open_at_end,
    ),
    Probe(
        name="cancelled",
        family="resources",
        why="rft cancels episodes at a limit of time, when a sampler fails, and at the end of a run.",
        how="An episode is cancelled at every turn, while it awaits the policy and while it works on a reply, three "
        "times.",
        threshold="fails if something stays open, or if the process must be killed (environment.close_timeout_s)",
        remedy="Clean up in a finally block, without long waits, and never swallow asyncio.CancelledError.",
        run=cancelled,
    ),
)
