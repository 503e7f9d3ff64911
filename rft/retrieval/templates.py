"""Templates of prompts and queries: Jinja in a sandbox, in which a missing column is an error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Template, TemplateError, meta
from jinja2.runtime import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

PROMPT = "prompt"
"""Variable of a prompt's template with its text, besides `passages` and the columns of the row."""
DEFAULT = (
    "{% for passage in passages %}[{{ passage.id }}] {{ passage.text }}\n{% endfor %}"
    "{% if passages %}\n\n{% endif %}"  # the first line break ends the block
    "{{ prompt }}"
)
"""The prompt below its passages."""
_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


class PromptTemplate:
    """A compiled template.

    Args:
        text: The template, or a file that ends in .jinja.
        key: The configuration key, for messages.

    Raises:
        ValueError: The file cannot be read, or the text is no template.
    """

    def __init__(self, text: str, *, key: str) -> None:
        self.key = key
        try:
            source = Path(text).expanduser().read_text(encoding="utf-8") if text.endswith(".jinja") else text
            self.variables = frozenset(meta.find_undeclared_variables(_ENVIRONMENT.parse(source)))
            self._template: Template = _ENVIRONMENT.from_string(source)
        except OSError as error:
            raise ValueError(f"{key}={text}: cannot be read: {error.strerror}") from error
        except (TemplateError, UnicodeDecodeError) as error:
            raise ValueError(f"{key}: is no Jinja template: {error}") from error

    def missing(self, columns: Mapping[str, Any], *others: str) -> list[str]:
        """Return the variables that are neither a column nor among the others."""
        return sorted(self.variables - columns.keys() - {*others})

    def render(self, values: Mapping[str, Any]) -> str:
        """Return the text. Values are never read as templates.

        Raises:
            ValueError: The template fails on these values.
        """
        try:
            return self._template.render(values)
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise ValueError(f"{self.key}: {type(error).__name__}: {error}") from error
