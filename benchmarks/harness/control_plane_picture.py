"""Draws the picture of `control_plane.py`: completions per second and CPU time by number of actors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from rft.run_folder.plots import BLUE, GREY, PHASE_COLOURS, RED, STYLE


def draw(
    picture: Path,
    *,
    pace: int,
    paced: Mapping[int, float],
    free: Mapping[int, float],
    cpu_us: Mapping[int, Mapping[str, float]],
) -> None:
    """Draw the picture.

    Args:
        picture: The PNG file.
        pace: Completions per second of a paced engine.
        paced: Completions per second by number of actors, with paced engines.
        free: Completions per second by number of actors, with engines without a pace.
        cpu_us: CPU microseconds of a completion by number of actors and group of processes, without a pace.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.set_title("Completions a second through one driver")
        left.plot(list(paced), [pace * actors for actors in paced], color=GREY, linestyle="--", label="linear")
        left.plot(list(paced), list(paced.values()), "o-", color=BLUE, label=f"engines at {pace} a second each")
        left.plot(list(free), list(free.values()), "s-", color=RED, label="engines that cost nothing")
        left.set_xscale("log", base=2)
        left.set_yscale("log")
        left.set_xticks(sorted({*paced, *free}))
        left.xaxis.set_major_formatter(FuncFormatter(lambda actors, _: f"{actors:g}"))
        left.yaxis.set_major_formatter(FuncFormatter(lambda per_s, _: f"{per_s:,.0f}"))
        left.xaxis.set_minor_locator(NullLocator())
        left.set_xlabel("actors")
        left.legend()
        right.set_title("CPU time of a completion, engines that cost nothing")
        places = range(len(cpu_us))
        below = [0.0] * len(cpu_us)
        for group, colour in zip(next(iter(cpu_us.values())), PHASE_COLOURS, strict=False):
            heights = [by_group[group] for by_group in cpu_us.values()]
            right.bar(places, heights, bottom=below, color=colour, label=group)
            below = [low + height for low, height in zip(below, heights, strict=True)]
        right.set_xticks(places, [str(actors) for actors in cpu_us])
        right.set_xlabel("actors")
        right.set_ylabel("microseconds")
        right.legend()
        picture.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(picture, dpi=120)
