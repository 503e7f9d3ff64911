"""Opens the sampler that plays the episodes of a run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from rft.config import EvaluateConfig, RunConfig
from rft.config.environment import lowest_score
from rft.data.continuation import Continuation
from rft.episodes.conversation import Rules
from rft.episodes.players import Player, player_of
from rft.episodes.process import LOG
from rft.episodes.sampler import EpisodeSampler
from rft.run.inputs.prepare import Prepared
from rft.sampling.fleet import Fleet


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


def player_of_run(config: RunConfig | EvaluateConfig, prepared: Prepared, *, log: Path | None = None) -> Player:
    """Return what plays the episodes of a run; `log` gets the output of environments."""
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
    )


@asynccontextmanager
async def opened_episodes(
    config: RunConfig | EvaluateConfig, prepared: Prepared, fleet: Fleet
) -> AsyncIterator[EpisodeSampler | None]:
    """Yield the sampler of episodes, or None without an environment; end the environment's processes afterwards."""
    if prepared.environment is None:
        yield None
        return
    player = player_of_run(config, prepared, log=Path(config.output_dir) / LOG)
    try:
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
