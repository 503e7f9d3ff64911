"""`rft config`: the meanings of the configuration's keys."""

from __future__ import annotations

from rft.config.help import config_text, sections_text
from rft.errors import ConfigError


def config(words: list[str]) -> int:
    """Print the meaning of one key or of a section, or the names of all sections."""
    if len(words) > 1 or any(word.startswith("-") for word in words):
        raise ConfigError("command line", ["write rft config <key>, as rft config loop.steps, or rft config alone"])
    print(config_text(words[0]) if words else sections_text(), end="")
    return 0
