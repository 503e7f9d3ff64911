"""The command line of a sweep or a pipeline, which its folder records without secrets, and which a resume repeats."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rft.errors import ConfigError
from rft.redaction.secret import HIDDEN


def key_of(word: str) -> str:
    """Return the key of an override."""
    return word.lstrip("+~").partition("=")[0]


def resumed_words(
    recorded: Sequence[str], words: Sequence[str], *, may_change: Collection[str], file: str
) -> list[str]:
    """Return the recorded command line with the arguments of a resume.

    Args:
        recorded: The recorded arguments.
        words: The arguments of the resume, with `resume=<folder>`.
        may_change: Keys that may have other values than before.
        file: Name of the record, for messages.

    Raises:
        ConfigError: Another setting would change, or a secret is missing.
    """
    given = [key for word in words if (key := key_of(word)) != "resume"]
    hidden = [key_of(word) for word in recorded if HIDDEN in word]
    allowed = [*may_change, *hidden]
    if wrong := [key for key in given if key not in allowed]:
        names = ", ".join(allowed)
        raise ConfigError("resume", [f"{key}: cannot be changed on resume; allowed are {names}" for key in wrong])
    if missing := [key for key in hidden if key not in given]:
        raise ConfigError("resume", [f"{key}: a secret, which {file} does not hold; give it again" for key in missing])
    return [*(word for word in recorded if key_of(word) not in given), *words]
