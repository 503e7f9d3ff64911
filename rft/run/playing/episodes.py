"""Opens the sampler that plays the episodes of a run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from rft.cluster import Workplace
from rft.cluster.environment_hosts import environment_hosts, places_for
from rft.config import EvaluateConfig, RunConfig
from rft.config.environment import lowest_score
from rft.data.continuation import Continuation
from rft.episodes.conversation import Rules
from rft.episodes.players import Player, player_of
from rft.episodes.process import LOG, Host
from rft.episodes.sampler import EpisodeSampler
from rft.episodes.user_code import user_code
from rft.events import Emit, Notice, PhaseStarted, Warned
from rft.run.inputs.prepare import Prepared
from rft.sampling.fleet import Fleet
from rft.wording import plural


def episode_rules(config: RunConfig | EvaluateConfig, prepared: Prepared) -> Rules:
    """Return what all episodes of a run have in common."""
    return Rules(
        renderer=prepared.renderer,
        continuation=Continuation(prepared.renderer, prepared.end_ids),
        max_turns=config.environment.max_turns,
        max_completion_tokens=config.sampler.max_completion_tokens,
        context_tokens=prepared.context_tokens,
        tools=prepared.call_form,
    )


def player_of_run(
    config: RunConfig | EvaluateConfig, prepared: Prepared, *, log: Path | None = None, hosts: Sequence[Host] = ()
) -> Player:
    """Return what plays the episodes of a run.

    Args:
        config: A checked configuration.
        prepared: Its inputs.
        log: File for the output of environments; None discards it.
        hosts: Where environments run; none takes this machine.
    """
    assert prepared.environment is not None
    servers = [name for name, entry in config.tools.items() if entry.mcp is not None]
    return player_of(
        config.environment,
        prepared.tokenizer,
        tools=config.tools,
        offered={name: prepared.environment.tools_of(name) for name in servers},
        fingerprints=prepared.environment.fingerprints,
        lowest=lowest_score(config.graders),
        log=log,
        hosts=hosts,
    )


@asynccontextmanager
async def opened_episodes(
    config: RunConfig | EvaluateConfig, prepared: Prepared, fleet: Fleet, place: Workplace, emit: Emit
) -> AsyncIterator[EpisodeSampler | None]:
    """Yield the sampler of episodes, or None without an environment; end the environment's processes afterwards.

    Args:
        config: A checked configuration.
        prepared: Its inputs.
        fleet: Samples the turns.
        place: The places of the run's processes.
        emit: Receives the loss of environments on other nodes.

    Raises:
        EpisodeError: A node cannot load the environment.
        UsageError: The environment's files cannot travel.
        WaitTimeout: A node did not load it in time.
    """
    if prepared.environment is None:
        yield None
        return
    log = Path(config.output_dir) / LOG
    async with _hosts(config, place, log, emit) as hosts:
        player = player_of_run(config, prepared, log=log, hosts=hosts)
        try:
            await player.start()
            yield EpisodeSampler(
                fleet,
                player,
                episode_rules(config, prepared),
                seed=config.seed,
                max_open=config.environment.most_open,
                filler=min(prepared.end_ids),
            )
        finally:
            await player.close()


@asynccontextmanager
async def _hosts(
    config: RunConfig | EvaluateConfig, place: Workplace, log: Path, emit: Emit
) -> AsyncIterator[Sequence[Host]]:
    """Yield the hosts on the nodes of the samplers; none if environments run on this machine."""
    environment = config.environment
    if environment.placement == "driver":
        yield ()
        return
    places = await places_for(config, place.environment_options, user_code(environment, config.tools))
    emit(PhaseStarted(text=f"starting environments on {plural(len(places), 'node')}"))
    async with environment_hosts(
        places,
        num_workers=environment.num_workers,
        log=log,
        tell=lambda text: emit(Notice(text=text)),
        warn=lambda text: emit(Warned(text=text)),
    ) as hosts:
        yield hosts
