"""The report of an audit as one HTML page for colleagues. The page loads no resources and runs no scripts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).with_name("page.html.jinja")


def page(report: Mapping[str, Any]) -> str:
    """Return the page in ASCII. All texts are escaped, because completions and tasks are not trusted.

    Args:
        report: The content of audit.json.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    html = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(report=_visible(report))
    return html.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _visible(value: Any) -> Any:
    """Replace lone surrogates and control characters, line ends excepted, by Python's escapes."""
    if isinstance(value, Mapping):
        return {_visible(key): _visible(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_visible(inner) for inner in value]
    if not isinstance(value, str):
        return value
    return "".join(
        char if char == "\n" or char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in value
    )
