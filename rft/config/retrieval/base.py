"""Keys that all stores share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from rft.config.fields import NotNegative, Number, Positive, PositiveSeconds, Section, Share, Whole
from rft.config.reranker import RerankerConfig


class RetrievalConfig(Section):
    """Keys that all stores share: what is searched for, and what a prompt shows of it."""

    if TYPE_CHECKING:
        kind: str = ""

    store_class: ClassVar[str]
    """`module:Class` of the store. Only the process that searches imports it."""

    top_k: Positive = 4
    """Passages of a prompt."""
    query: str | None = None
    """What to search for: a column, or a Jinja template with the columns such as `{{ product }} {{ question }}`; null
    takes the last message of the user."""
    filters: dict[str, Any] = {}
    """Metadata that passages must have, such as `{language: en}`; a list allows several values."""
    exclude: str | None = None
    """Column with the id, or a list of ids, of passages that the row's prompt never shows, such as the post that the
    row asks for."""
    rerank: RerankerConfig | None = None
    """A model that orders what the store found; null keeps the order of the store."""
    template: str | None = None
    """Jinja text, or a file that ends in .jinja, that writes the last message of the user from `passages`, `prompt` and
    the columns; null writes `[id] text` for each passage, and then the prompt."""
    min_score: Number | None = None
    """Lowest score of a passage; null shows every passage that was found."""
    relevant: str = "relevant"
    """Column with the ids of the passages that hold the answer."""
    distractors: NotNegative = 0
    """Passages further down the list, none of them relevant, that are shown among the others."""
    left_out_share: Share = 0.0
    """Share of the rows with `relevant` whose relevant passages are left out. Such a row names what to expect then in
    its column `left_out`, as `{"answer": "The sources do not say."}`, which replaces columns of that name."""
    shuffle: bool = False
    """Whether the passages stand in a random order; otherwise the best comes first."""
    seed: Whole = 0
    """Seed of `left_out_share` and `shuffle`, apart from that of the run, so that all commands show the same."""
    allow_empty: bool = False
    """Whether a prompt may show no passage, because nothing was found or scores at least `min_score`."""
    max_faults: NotNegative = 10
    """Failed searches that are repeated before rft gives up."""
    timeout_s: PositiveSeconds = 30.0
    """Seconds allowed for one search of up to `batch_queries` queries."""
    batch_queries: Positive = 64
    """Queries in one search."""
    cache_folder: str | None = None
    """Folder that keeps found passages by the fingerprint of the store, so that no query is searched twice; null keeps
    none."""

    @property
    def start_timeout_s(self) -> float:
        """Seconds allowed for the first call of the store, which may have to wait for its index."""
        return self.timeout_s

    @property
    def is_on(self) -> bool:
        """Whether prompts show passages."""
        return bool(self.store_class)

    @property
    def files(self) -> dict[str, str]:
        """Files that are read, by their keys."""
        return {}

    def problems(self) -> list[str]:
        """Return problems across keys, one sentence each, before anything is opened."""
        return []
