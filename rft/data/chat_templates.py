"""Chat templates that ship with rft, for base models whose tokenizers have none."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent / "templates"

TEMPLATE_NAMES = tuple(sorted(file.stem for file in _FOLDER.glob("*.jinja")))
"""Names that `model.chat_template` accepts instead of a file."""


def shipped_template(name: str) -> str | None:
    """Return the template with this name, or None."""
    return (_FOLDER / f"{name}.jinja").read_text(encoding="utf-8") if name in TEMPLATE_NAMES else None
