"""Parses the arguments of `rft sweep`, which searches over runs, or over the last stage of a pipeline.

The arguments of a search over a stage are those of `rft pipeline`. Keys of the last stage have several values, or
`sweep.space` has its keys. The stages before run once, and every trial starts from the result of the last of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rft.config.pipeline_arguments import Stage, names_stages, read_pipeline
from rft.config.presets import SEARCHPATH
from rft.config.recorded_words import key_of
from rft.config.search import OF_THE_SWEEP, Search, read_search, with_several_values
from rft.errors import ConfigError

_MERGE = (
    "stages.{name}.start_mode=merge: each trial of a sweep would merge the same model; leave it out, or run the stages "
    "before with rft pipeline, merge their result once (rft merge adapter=<run> output_dir=merged), and sweep with "
    "model.path=merged"
)


def read_sweep(words: Sequence[str]) -> Search:
    """Parse the arguments of `rft sweep`.

    Raises:
        ConfigError: The sweep's own keys, its space, or the stages have problems.
    """
    own = [word for word in words if re.match(OF_THE_SWEEP, word)]
    given = [word for word in words if word not in own]
    searched = [word for word in own if key_of(word) == SEARCHPATH]
    if not names_stages([*searched, *given]):
        return read_search(words)
    *before, last = read_pipeline([*searched, *given]).stages
    if problems := list(_several_values_elsewhere(given, last)):
        raise ConfigError("configuration", problems)
    typed = {key_of(word).removeprefix(f"stages.{last.name}.") for word in given}
    defaults = {key_of(word) for word in last.words} - typed
    search = read_search([*own, *(word for word in last.words if word not in searched)], replaceable=defaults)
    if before and any("start_mode=merge" in corner for corner in search.corners()):
        raise ConfigError("configuration", [_MERGE.format(name=last.name)])
    return replace(search, before=tuple(before), stage=replace(last, words=search.words))


def _several_values_elsewhere(given: Sequence[str], last: Stage) -> Iterator[str]:
    """Yield the problems of several values that do not belong to the last stage."""
    for key, values in with_several_values(given):
        if key.startswith(f"stages.{last.name}."):
            continue
        if key.startswith("stages."):
            yield f"{key}={values}: the stages before the last one run once; give one value"
        else:
            yield (
                f"{key}={values}: a key of all stages, of which only the last one can have several values; write "
                f"stages.{last.name}.{key}={values}"
            )
