"""`rft index`: makes a local index of passages, and measures what it finds."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from rft.config.index import IndexBuildConfig, IndexCheckConfig
from rft.config.retrieval.local import LocalRetrievalConfig
from rft.data.files import Flaw
from rft.data.messages import BadRow
from rft.data.tasks import read_tasks, refuse_flaws
from rft.errors import RetrievalError, UsageError
from rft.retrieval.documents import build_index
from rft.retrieval.found import key_of
from rft.retrieval.grounding import Grounding, ids_in
from rft.retrieval.index_folder import read_manifest
from rft.retrieval.passages import Query
from rft.retrieval.recall import Recall, measure_recall
from rft.retrieval.searching import find
from rft.retrieval.stores.protocol import StoreFault
from rft.types import Split, Task

SEARCHES = ("words", "vectors", "fused")
"""The rankings that a check compares, as in `retrieval.search`."""


def make_index(config: IndexBuildConfig) -> dict[str, Any]:
    """Make an index; return its manifest.

    Raises:
        UsageError: Documents, embedder or folder cannot be used.
        RetrievalError: The embedder failed.
    """
    try:
        return asyncio.run(build_index(config))
    except ValueError as error:
        raise UsageError("index", [str(error)]) from error
    except StoreFault as error:
        raise RetrievalError(f"the embedder failed: {error}") from error


def check_index(config: IndexCheckConfig) -> tuple[dict[str, Recall], list[str], int]:
    """Measure an index on rows that name their relevant passages. Rows that name none (`[]`) are left out.

    Returns:
        The quality by kind of ranking, the places of the rows for which `fused` finds no relevant passage, and the
        number of rows that are left out.

    Raises:
        UsageError: Index or rows cannot be used; contains all problems.
    """
    try:
        read_manifest(Path(config.index).expanduser())
    except ValueError as error:
        raise UsageError("index", [str(error)]) from error
    rows = read_tasks(config.data, key="data", split=Split.TEST, columns=config.columns, system=None)
    tasks = [row for row in rows if row.item.get(config.relevant) != []] or rows
    queries, relevant = _questions(config, tasks)
    keys = [key_of(query, config.top_k) for query in queries]
    results: dict[str, Recall] = {}
    for search in SEARCHES:
        store = LocalRetrievalConfig.model_validate({"index": config.index, "search": search})
        _, found = asyncio.run(find(store, queries, config.top_k))
        ids = [[passage.id for passage in found[key]] for key in keys]
        results[search] = measure_recall(ids, relevant, config.top_k)
    return results, [tasks[number].where for number in results["fused"].misses], len(rows) - len(tasks)


def _questions(config: IndexCheckConfig, tasks: list[Task]) -> tuple[list[Query], list[frozenset[str]]]:
    """Return the query of each row, and its relevant passages; refuse rows without them, all together."""
    try:
        grounding = Grounding(LocalRetrievalConfig(index=config.index, query=config.query))
    except ValueError as error:
        raise UsageError("index", [str(error)]) from error
    queries, relevant, flaws = [], [], []
    for task in tasks:
        try:
            if not (own := ids_in(task.item, config.relevant)):
                columns = ", ".join(task.item) or "no other columns"
                raise BadRow(f'no column "{config.relevant}" with ids of passages; it has: {columns}')
            queries.append(grounding.query(task))
            relevant.append(own)
        except BadRow as error:
            flaws.append(Flaw(task.where, str(error)))
    refuse_flaws(flaws, config.data)
    return queries, relevant
