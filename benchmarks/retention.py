"""Measures what training on one task family does to three others, without and with replay.

    python benchmarks/retention.py --folder <folder>                 reinforcement (GRPO), five seeds
    python benchmarks/retention.py --learner sft sampler=transformers    with keys of `rft train` for all runs

Each run trains the embedded model on one of its four families, and takes a share of each step (`data.replay`) from the
other three, which are marked as older. All four are measured on held-out tasks before and after the run. The tables
show the change by family as rft records it: paired by task, averaged over seeds, with Student's t interval over seeds.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from harness import commands, gates, report

FAMILIES = ("chain_sum", "gcd", "count_bits", "spell_backward")
"""The families of the embedded model; `data=families` names their tasks."""
SHARES = (0.0, 0.1, 0.3)
"""Values of `data.replay`."""

Changes = Mapping[float, Sequence[Mapping[str, float]]]
"""By share of replay, and by seed: the change of each family's held-out score."""


def main() -> None:
    """Train all runs and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="keeps the runs; finished ones are not repeated")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, at least 2 (default: 5)")
    parser.add_argument("--learner", choices=["grpo", "sft"], default="grpo", help="reinforcement or demonstrations")
    parser.add_argument("--family", choices=FAMILIES, default=FAMILIES[0], help="the trained family")
    parser.add_argument("keys", nargs="*", help="keys of `rft train` for all runs, such as sampler=transformers")
    given = parser.parse_args()
    print(f"{report.machine()}\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="rft-retention-") as temporary:
        changes = measure(given.folder or Path(temporary), given)
    print("\n" + matrix(changes, given.family))
    print("\n" + "\n".join(effects(changes, given.family)))


def measure(folder: Path, given: argparse.Namespace) -> Changes:
    """Train with every share of replay and every seed."""
    changes: dict[float, list[dict[str, float]]] = {share: [] for share in SHARES}
    for seed in range(given.seeds):
        for share in SHARES:
            name = f"{given.learner}-{given.family}-{share:g}-{seed}"
            summary = commands.train(folder / name, *words(given, share, seed))
            families = summary["families"]
            changes[share].append({family: families[family]["difference"]["mean"] for family in FAMILIES})
            cells = ", ".join(f"{family} {change:+.3f}" for family, change in changes[share][-1].items())
            print(f"replay {share:g}, seed {seed}: {cells}", flush=True)
    return changes


def words(given: argparse.Namespace, share: float, seed: int) -> list[str]:
    """Return the arguments of `rft train` for one run."""
    older = [f"data.mixture.{family}.older=true" for family in FAMILIES if family != given.family]
    keys = ["experiment=quickstart", "data=families", *older, f"data.replay={share:g}", f"seed={seed}"]
    if given.learner == "sft":
        rows = [f"data.mixture.{family}.source=embedded:{family}/demonstrations" for family in FAMILIES]
        keys += ["learner=sft", *rows]
    return [*keys, "evaluation.every_steps=null", *given.keys]


def matrix(changes: Changes, trained: str) -> str:
    """Return the Markdown table of changes: one row for each family, one column for each share of replay."""
    head = ["family", *(f"replay {share:g}" for share in changes)]
    rows = [
        [
            f"**{family}** (trained)" if family == trained else family,
            *(cell(changes[share], [family]) for share in changes),
        ]
        for family in FAMILIES
    ]
    watched = [family for family in FAMILIES if family != trained]
    return report.table(head, [*rows, ["mean of the others", *(cell(changes[share], watched) for share in changes)]])


def cell(by_seed: Sequence[Mapping[str, float]], families: Sequence[str]) -> str:
    """Return the mean change over families and seeds with its interval over seeds."""
    return over_seeds([fmean(one[family] for family in families) for one in by_seed])


def effects(changes: Changes, trained: str) -> list[str]:
    """Return a sentence for each share of replay: its effect on the watched families, paired by seed."""
    watched = [family for family in FAMILIES if family != trained]
    means = {share: [fmean(one[family] for family in watched) for one in changes[share]] for share in changes}
    none, *others = means
    return [
        f"The others with replay {share:g} instead of {none:g}, paired by seed: "
        f"{over_seeds([a - b for a, b in zip(means[share], means[none], strict=True)])}"
        for share in others
    ]


def over_seeds(values: Sequence[float]) -> str:
    """Return a mean over seeds with its interval, as in `-0.120 [-0.150, -0.090]`."""
    found = gates.parity(values, [0.0] * len(values))
    return f"{found['difference']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"


if __name__ == "__main__":
    main()
