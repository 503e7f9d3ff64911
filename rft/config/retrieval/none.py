"""No passages."""

from __future__ import annotations

from typing import ClassVar, Literal

from rft.config.retrieval.base import RetrievalConfig


class NoRetrievalConfig(RetrievalConfig):
    """No store: prompts show no passages."""

    store_class: ClassVar[str] = ""

    kind: Literal["none"] = "none"

    def problems(self) -> list[str]:
        """Refuse keys without effect."""
        # Not `model_fields_set`: the configuration of a resumed run sets every key.
        changed = [name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default]
        return [f"retrieval.{name}: has no effect without a store; add retrieval=local" for name in changed]
