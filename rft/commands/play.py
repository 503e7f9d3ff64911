"""`rft play`: play one episode with a base model or an adapter, shown turn by turn."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from rft.commands.configured import configured
from rft.config import EvaluateConfig
from rft.config.adapter_settings import settings_in_words
from rft.config.commands import load_play


def play(words: list[str]) -> int:
    """Play an episode with the first task of `data.test`, and print its turns and scores.

    Returns:
        The exit code: 0, or 1 if the environment or a grader failed.
    """
    return configured("play", words, load_play, _play)


def _play(config: EvaluateConfig) -> int:
    from rft.api.play import play as play_episode

    console = Console()
    if settings := settings_in_words(config):
        print(settings)

    def show(author: str, text: str) -> None:
        shown = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
        console.print(Text(f"{author:>11}  {shown}"), soft_wrap=True)

    return 1 if play_episode(config, show).has_failed else 0
