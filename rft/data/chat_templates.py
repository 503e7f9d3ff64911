"""Chat templates that ship with rft, for base models whose tokenizers have none; and the variables of templates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent / "templates"

TEMPLATE_NAMES = tuple(sorted(file.stem for file in _FOLDER.glob("*.jinja")))
"""Names that `model.chat_template` accepts instead of a file."""


def shipped_template(name: str) -> str | None:
    """Return the template with this name, or None."""
    return (_FOLDER / f"{name}.jinja").read_text(encoding="utf-8") if name in TEMPLATE_NAMES else None


def unused_variables(variables: Mapping[str, Any], template: Any) -> list[str]:
    """Return a sentence for each variable that the template does not use."""
    sources = template.values() if isinstance(template, Mapping) else [template or ""]
    return [
        f"model.chat_template_kwargs.{name}={value}: the chat template does not use this variable; remove it"
        for name, value in variables.items()
        if not any(re.search(rf"\b{re.escape(name)}\b", source) for source in sources)
    ]
