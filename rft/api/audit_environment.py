"""The audit of an environment: plays scripted episodes before training, and writes the report."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rft.auditing.environments.episodes import Player
from rft.auditing.environments.examine import environment_report, examine_environment
from rft.auditing.environments.profile import EnvironmentProfile
from rft.config import AuditConfig
from rft.config.environment import SCORE, lowest_score
from rft.data.tasks import read_with, to_episode_task
from rft.episodes.contract import LoadedEnvironment
from rft.episodes.process import LOG
from rft.episodes.workers import EnvironmentWorkers
from rft.grading import load_grader
from rft.redaction import redacted
from rft.run.forecast.plan import Plan
from rft.run.playing.environment import environment_of
from rft.run_folder.recorder import refuse_output
from rft.types import Split, Task


def environment_tasks(config: AuditConfig) -> list[Task]:
    """Return the tasks of an audit of an environment, which may have no prompt.

    Raises:
        DataError: The source has flaws or cannot be read.
    """
    source, columns = config.data.tasks or "", config.data.columns
    tasks = read_with(
        to_episode_task, source, key="data", columns=columns, split=Split.TEST, system=None, format="chat"
    )
    return tasks[: config.data.max_tasks]


def plan_environment_audit(config: AuditConfig) -> Plan:
    """Read the tasks, load the environment, and return the plan of the audit.

    Raises:
        UsageError: The message lists all problems.
    """
    refuse_output(Path(config.output_dir))
    tasks, loaded = environment_tasks(config), _loaded(config)
    rows = {
        "environment": f"{loaded.use} ({loaded.sha256[:12]})",
        **({"tools": ", ".join(loaded.entry_of)} if config.tools else {}),
        "tasks": f"{len(tasks):,} of {config.data.tasks}",
        "output folder": f"{config.output_dir} (free)",
    }
    return Plan(title="the audit can start with these settings:", rows=rows)


async def audited_environment(
    config: AuditConfig, tasks: list[Task], *, played: Callable[[], None], starting: Callable[[str], None]
) -> dict[str, Any]:
    """Run all probes of an environment; return the content of audit.json.

    Args:
        config: The configuration, with an environment.
        tasks: The tasks.
        played: Called after each episode.
        starting: Called with the name of each probe before it starts.

    Raises:
        RftError: The environment cannot be loaded, or its processes end before they play an episode.
    """
    loaded, started, episodes = _loaded(config), time.monotonic(), 0
    name = loaded.use if config.environment.is_on else f"tools: {', '.join(config.tools)}"
    log, lowest = Path(config.output_dir) / LOG, lowest_score(config.graders)

    def count() -> None:
        nonlocal episodes
        episodes += 1
        played()

    def player_of(num_workers: int | None) -> Player:
        environment = config.environment.model_copy(update={"num_workers": num_workers})
        workers = EnvironmentWorkers(environment, tools=config.tools, lowest=lowest, log=log)
        return Player(workers, max_turns=environment.max_turns, tools=loaded.tools, count=count)

    player = player_of(1)
    profile = EnvironmentProfile(
        player=player,
        other=lambda: player_of(1),
        planned=lambda: player_of(config.environment.num_workers),
        tasks=tasks,
        gold=config.gold,
        range=load_grader(SCORE, config.graders[SCORE]).range or (0.0, 1.0),
        episodes_per_step=config.completions_per_step,
        max_open=config.environment.most_open,
        timeout_s=config.environment.timeout_s,
    )
    try:
        outcomes = await examine_environment(profile, starting=starting)
    finally:
        await player.workers.close()
    about = {"use": name, "style": config.environment.style, "sha256": loaded.sha256}
    return environment_report(
        profile,
        outcomes,
        environment=about,
        tasks=str(redacted(config.data.tasks or "")),
        episodes=episodes,
        seconds=time.monotonic() - started,
    )


def _loaded(config: AuditConfig) -> LoadedEnvironment:
    loaded = environment_of(config)  # type: ignore[arg-type]  # it has the same keys
    assert loaded is not None, "the configuration has an environment"
    return loaded
