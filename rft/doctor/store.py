"""Checks a store of passages by asking it, with its embedder and reranker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence

from rft.config.retrieval.base import RetrievalConfig
from rft.config.store import load_store
from rft.doctor.finding import Finding
from rft.errors import RftError
from rft.retrieval.build import open_store
from rft.retrieval.passages import Passage, Query
from rft.retrieval.stores.protocol import Store, StoreFault
from rft.waiting import wait_for

QUESTION = "What do these passages say?"
"""What is searched for. Any text has nearest neighbours."""


def store_findings(words: Sequence[str]) -> Iterator[Finding]:
    """Check that a store can be asked, that it fits the settings, and that it finds passages.

    Args:
        words: The settings, such as `retrieval=mongodb_atlas`.

    Raises:
        ConfigError: The settings are wrong.
    """
    config = load_store(words)
    if config.is_on:
        yield from asyncio.run(_asked(config))


async def _asked(config: RetrievalConfig) -> list[Finding]:
    findings: list[Finding] = []
    check = f"store ({config.kind})"
    store: Store | None = None
    try:
        store = open_store(config)
        what = f"the store of retrieval={config.kind}"
        fingerprint = await wait_for(store.fingerprint(), what=what, deadline_s=config.start_timeout_s)
        findings.append(Finding(check=check, state="ok", found=f"fits the settings; fingerprint {fingerprint}"))
        check, started = f"search ({config.kind})", time.perf_counter()
        query = Query(text=QUESTION, filters=config.filters)
        what = f"a search in retrieval={config.kind}"
        search = store.search([query], config.top_k)
        (passages,) = await wait_for(search, what=what, deadline_s=config.timeout_s)
        findings.append(_search(check, passages, time.perf_counter() - started))
    except (ValueError, StoreFault, RftError) as error:
        findings.append(Finding(check=check, state="fail", found=" ".join(str(error).split())))
    finally:
        if store is not None:
            await store.close()
    return findings


def _search(check: str, passages: Sequence[Passage], seconds: float) -> Finding:
    if not passages:
        remedy = "add passages, or widen retrieval.filters"
        return Finding(check=check, state="warn", found="the store answered, and found nothing", remedy=remedy)
    scores = [passage.score for passage in passages]
    found = f"{len(passages)} passages in {1000 * seconds:.0f} ms; scores {min(scores):.3f} to {max(scores):.3f}"
    return Finding(check=check, state="ok", found=found)
