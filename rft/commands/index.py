"""`rft index`: make a local index of passages, and measure what it finds."""

from __future__ import annotations

from rft.commands.actions import Actions, run_action
from rft.config.index import IndexBuildConfig, IndexCheckConfig

USAGE = """\
usage: rft index build documents=<file> out=<folder> [embedder=hashing] [columns.text=<column>]
       rft index check index=<folder> data=<file> [relevant=<column>] [query=<column or template>] [top_k=10]

{keys}
docs/retrieval.md explains both.
"""


def index(words: list[str]) -> int:
    """Make or check an index; return the exit code, 0."""
    return run_action("index", words, ACTIONS, USAGE)


def _build(config: IndexBuildConfig) -> int:
    from rft.api.index import make_index

    made = make_index(config)
    print(
        f"{config.out}: {made['num_passages']:,} passages, vectors of {made['dimensions']} numbers by {made['model']}, "
        f"fingerprint {made['fingerprint']}"
    )
    return 0


def _check(config: IndexCheckConfig) -> int:
    from rft.api.index import check_index

    results, misses, num_left_out = check_index(config)
    cuts = list(next(iter(results.values())).recall)
    print(f"{'ranking':<10}" + "".join(f"{f'recall@{cut}':>11}" for cut in cuts) + f"{'MRR':>8}")
    for name, own in results.items():
        print(f"{name:<10}" + "".join(f"{own.recall[cut]:>11.3f}" for cut in cuts) + f"{own.mrr:>8.3f}")
    if num_left_out:
        print(f"{num_left_out} rows name no relevant passage and are left out")
    if misses:
        more = f" and {len(misses) - 5} more" if len(misses) > 5 else ""
        print(f"no relevant passage among the first {config.top_k} for {', '.join(misses[:5])}{more}")
    return 0


ACTIONS: Actions = {"build": (IndexBuildConfig, _build), "check": (IndexCheckConfig, _check)}
"""The schema and the function of each action."""
