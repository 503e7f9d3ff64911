"""Grounds the tasks of a configuration: finds their passages, and puts these into prompts and items."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from rft.config import AuditConfig, EvaluateConfig, RunConfig
from rft.config.retrieval import Retrieval, RetrievalConfig
from rft.data.files import Flaw
from rft.data.messages import BadRow
from rft.data.splits import TaskSets
from rft.data.tasks import refuse_flaws
from rft.errors import DataError, RetrievalError, UsageError, WaitTimeout
from rft.run.inputs.fitting import Reuse
from rft.storage import Place
from rft.types import Task
from rft.waiting import within

if TYPE_CHECKING:
    from rft.retrieval.found import Found
    from rft.retrieval.grounding import Grounding
    from rft.retrieval.passages import Query

FILE = "passages.jsonl"
"""File of a run folder with the passages that its store found."""
SPLITS = ("train", "validation", "test")
ASIDE_S = 60.0
"""Seconds for everything but searches, such as loading an index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounded:
    """The tasks of a run with their passages.

    Example:
        Grounded(tasks=TaskSets(...), fingerprint="9b2e51c07d44a1f0", kind="local", found={...}, held_out={})
    """

    tasks: TaskSets
    """The tasks."""
    fingerprint: str
    """Fingerprint of the store."""
    kind: str
    """Kind of the store, such as `local`."""
    found: Mapping[str, Any]
    """What the store found, by query."""
    held_out: Mapping[str, Task]
    """Validation and test tasks before they got passages, by id."""
    seconds: float = 0.0
    """Time that it took to find the passages and to put them into the prompts."""
    warnings: tuple[str, ...] = ()
    """Whether the store of a resumed run has changed."""

    def without_passages(self, tasks: Sequence[Task]) -> list[Task]:
        """Return held-out tasks with their own prompts, and with the columns that graders see beside passages.

        A row whose relevant passages were left out expects the same answer as with passages.
        """
        return [replace(self.held_out[task.id], item={**task.item, "passages": []}) for task in tasks]

    def to_text(self) -> str:
        """Return the content of passages.jsonl."""
        from rft.retrieval.found import to_lines

        return json.dumps({"fingerprint": self.fingerprint}) + "\n" + "".join(to_lines(self.found))

    def in_words(self) -> str:
        """Return origin and number in one line."""
        return f"from retrieval={self.kind} for {len(self.found):,} different queries; fingerprint {self.fingerprint}"

    def to_manifest(self) -> dict[str, Any]:
        """Return the entry of manifest.json."""
        return {"store": self.kind, "fingerprint": self.fingerprint, "num_queries": len(self.found)}

    def time_share(self, wall_s: float) -> dict[str, float]:
        """Return the entry of summary.json: the time of retrieval, and its share of the run with it.

        Args:
            wall_s: Duration of the run after its preparation, seconds.
        """
        return {"seconds": self.seconds, "share": self.seconds / (self.seconds + wall_s)}


def grounded_tasks(config: RunConfig | EvaluateConfig | AuditConfig, tasks: TaskSets, reuse: Reuse) -> Grounded | None:
    """Return the tasks with passages; None without a store.

    A resumed run takes the passages that it recorded, and only compares the store's fingerprint.

    Args:
        config: The configuration.
        tasks: All tasks.
        reuse: Cache shared with other configurations.

    Raises:
        UsageError: Rows, templates or the store do not fit; contains all problems of the rows.
        RetrievalError: Too many searches failed.
    """
    if not config.retrieval.is_on:
        return None
    resumed = _resumed(config) if isinstance(config, RunConfig) and config.resume else None
    # `reuse` holds the lists, so no other list can get the id of one.
    lists = tuple(id(getattr(tasks, split)) for split in SPLITS)
    key = ("grounded", config.retrieval.model_dump_json(), lists, resumed)
    grounded, _ = reuse.get(key, lambda: (_ground(config.retrieval, tasks, resumed), tasks))
    return grounded


def _resumed(run: RunConfig) -> tuple[str, str] | None:
    """Return the file with the passages that a resumed run recorded, and its content; None if it recorded none.

    A trial of a sweep is prepared before its folder is fetched from storage, so the copy may be the only one.
    """
    own = Path(run.output_dir) / FILE
    if own.is_file():
        return str(own), own.read_text(encoding="utf-8")
    if run.resume in (None, run.output_dir):
        return None
    copy = Place(run.resume)
    has_file = within(lambda: copy.holds(FILE), what=f"{FILE} of {copy}", deadline_s=run.storage_timeout_s)
    if not has_file:
        return None
    content = within(lambda: copy.read(FILE), what=f"{FILE} of {copy}", deadline_s=run.storage_timeout_s)
    return f"{copy}/{FILE}", content.decode()


def grounded_task(settings: Mapping[str, Any], task: Task) -> Task:
    """Return one task with passages.

    Args:
        settings: The settings of a store, as in config.yaml.
        task: The task.

    Raises:
        UsageError: Settings, row, templates or store do not fit.
        RetrievalError: Too many searches failed.
    """
    try:
        config: RetrievalConfig = TypeAdapter(Retrieval).validate_python(settings)
    except ValidationError as error:
        problems = [f"{item['loc'][-1]}: {item['msg']}" for item in error.errors()]
        raise UsageError("retrieval", problems) from error
    if problems := config.problems():
        raise UsageError("retrieval", problems)
    (grounded,) = _ground(config, TaskSets(train=[], validation=[], test=[task]), None).tasks.test
    return grounded


def with_longest_passage(error: DataError, grounded: Grounded | None) -> DataError:
    """Return an error about prompts that are too long, with the longest passage if they show some."""
    if grounded is None:
        return error
    tasks = [task for split in SPLITS for task in getattr(grounded.tasks, split)]
    passages = [passage for task in tasks for passage in task.item["passages"]]
    if not passages:
        return error
    longest = max(passages, key=lambda passage: len(passage["text"]))
    problem = (
        f"the prompts show passages of retrieval={grounded.kind}, the longest of which is {longest['id']} with "
        f"{len(longest['text']):,} characters; lower retrieval.top_k, or store shorter passages"
    )
    return DataError(error.title, [*error.problems, problem])


def _ground(config: RetrievalConfig, tasks: TaskSets, resumed: tuple[str, str] | None) -> Grounded:
    from rft.retrieval.found import found_in, key_of
    from rft.retrieval.grounding import Grounding
    from rft.retrieval.searching import find

    began_s = time.perf_counter()
    try:
        grounding = Grounding(config)
    except ValueError as error:
        raise UsageError("retrieval", [str(error)]) from error
    queries = _queries(grounding, [task for split in SPLITS for task in getattr(tasks, split)])
    wanted = {key_of(query, grounding.num_wanted): query for query in queries.values()}
    file, content = resumed or ("", "")
    found = found_in(content, file)
    warnings: tuple[str, ...] = ()
    if content and wanted.keys() <= found.keys():
        fingerprint = _recorded_fingerprint(content)
        warnings = _changes(config, fingerprint)
    else:
        fingerprint, found = within(
            lambda: asyncio.run(find(config, list(wanted.values()), grounding.num_wanted)),
            what=f"passages for {len(wanted)} queries",
            deadline_s=_longest_s(config, len(wanted)),
        )
        if content:
            warnings = (f"{file} lacks passages of some tasks, so those of all tasks were searched again",)
    with_passages = _with_passages(grounding, tasks, queries, found, fingerprint)
    return Grounded(
        tasks=with_passages,
        fingerprint=fingerprint,
        kind=config.kind,
        found=found,
        held_out={task.id: task for task in [*tasks.validation, *tasks.test]},
        seconds=time.perf_counter() - began_s,
        warnings=warnings,
    )


def _queries(grounding: Grounding, tasks: list[Task]) -> dict[int, Query]:
    """Return the query of each task, by the id of the object; refuse rows that cannot be grounded, all together."""
    queries: dict[int, Query] = {}
    flaws: list[Flaw] = []
    for task in tasks:
        try:
            queries[id(task)] = grounding.query(task)
        except BadRow as error:
            flaws.append(Flaw(task.where or task.id, str(error)))
    refuse_flaws(flaws, "retrieval")
    return queries


def _with_passages(
    grounding: Grounding, tasks: TaskSets, queries: Mapping[int, Query], found: Found, fingerprint: str
) -> TaskSets:
    from rft.retrieval.found import key_of

    flaws: list[Flaw] = []
    grounded: dict[str, list[Task]] = {split: [] for split in SPLITS}
    for split, with_passages in grounded.items():
        for task in getattr(tasks, split):
            query = queries[id(task)]
            own = found[key_of(query, grounding.num_wanted)]
            try:
                with_passages.append(grounding.ground(task, query, own, fingerprint))
            except BadRow as error:
                flaws.append(Flaw(task.where or task.id, str(error)))
    refuse_flaws(flaws, "retrieval")
    return TaskSets(**grounded)


def _longest_s(config: RetrievalConfig, num_queries: int) -> float:
    """Return the seconds that all searches and their repetitions may take."""
    from rft.retrieval.searching import LONGEST_PAUSE_S

    searches = math.ceil(num_queries / config.batch_queries)
    once = config.start_timeout_s + searches * config.timeout_s
    return ASIDE_S + once + config.max_faults * (config.start_timeout_s + LONGEST_PAUSE_S)


def _recorded_fingerprint(content: str) -> str:
    first: dict[str, Any] = json.loads(content.partition("\n")[0])
    return str(first.get("fingerprint", ""))


def _changes(config: RetrievalConfig, fingerprint: str) -> tuple[str, ...]:
    """Return a warning if the store differs from the one that a run began with, or cannot be asked."""
    from rft.retrieval.searching import find

    once = config.model_copy(update={"max_faults": 0, "cache_folder": None})
    try:
        now, _ = within(
            lambda: asyncio.run(find(once, [], 1)),
            what=f"the store of retrieval={config.kind}",
            deadline_s=_longest_s(once, 0),
        )
    except (UsageError, RetrievalError, WaitTimeout) as error:
        problem = (
            f"retrieval={config.kind}: the store cannot be compared with that of the start; the run goes on with the "
            f"passages that it recorded: {' '.join(str(error).split())}"
        )
        return (problem,)
    if now == fingerprint:
        return ()
    return (
        f"retrieval={config.kind}: the store has changed since the run began (fingerprint {now} instead of "
        f"{fingerprint}); the run goes on with the passages that it recorded",
    )
