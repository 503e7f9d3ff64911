"""Keys that all embedders share."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rft.config.fields import Section


class EmbedderConfig(Section):
    """Keys that all embedders share."""

    if TYPE_CHECKING:
        kind: str = ""

    embedder_class: ClassVar[str]
    """`module:Class` of the embedder. Only the process that embeds imports it."""
