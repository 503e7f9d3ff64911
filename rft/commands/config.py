"""`rft config`: explain keys of the configuration."""

from __future__ import annotations

from rft.config.help import config_text, sections_text
from rft.errors import ConfigError


def config(words: list[str]) -> int:
    """Explain a key or a section, or list all sections."""
    if len(words) > 1 or any(word.startswith("-") for word in words):
        raise ConfigError("command line", ["write rft config <key>, such as rft config loop.steps, or only rft config"])
    print(config_text(words[0]) if words else sections_text(), end="")
    return 0
