"""The type of secrets in a configuration, and the recognition of secrets by name and by form.

Names are recognized by their words, and the unknown counts as secret: every `..._key` and `..._token` is one unless its
words say otherwise, so no list of vendors is needed. The value decides on ambiguous names such as `key` or `auth`. Keys
of a known form, such as `sk-...` or a JSON web token, are secrets under any name.
"""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "<redacted>"

MIN_CHARS = 8
"""A shorter secret is hidden at its key, but not searched for in other texts, where it would match by chance."""

_CERTAIN = re.compile(
    "token|key|apikey|secret|password|passwd|passphrase|pass|pwd|credential|authorization|bearer|cookie|jwt|dsn|webhook"
)
"""Last words of names whose values are secret, with the exceptions below."""
_AMBIGUOUS = re.compile("auth|pat|sig|signature|sas|pin|tokens|keys")
"""Last words of names whose values are secret unless they consist of ordinary words."""
_TEXT = re.compile(
    "bos|eos|pad|unk|sep|cls|mask|stop|start|end|think|image|audio|video|max|min|num|new|special|prompt|completion|input"
    "|output|total|banned|bad|allowed|free"
)
"""Words before `token` that mean a token of a text."""
_FIELD = re.compile(
    "primary|foreign|sort|group|answer|gold|reference|target|column|row|item|json|dict|yaml|cache|partition|index|map"
    "|unique|lookup|query|score"
)
"""Words before `key` that mean the name of a field."""
_COUNT = re.compile("num|max|min|is|has|use")
"""First words of names that hold a number or a switch."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_ORDINARY = re.compile(r"[A-Za-z]{1,15}\d{0,2}(?:[\s_./:-]+[A-Za-z]{1,15}\d{0,2})*")
"""Values such as `answer`, `final_answer` or `data/answers.json`."""
FORMS = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:sk|pk|rk)[-_](?=[\w-]*\d)[\w-]{16,}|gh[opsu]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"
    r"|hf_[A-Za-z0-9]{20,}|xox[a-z]-[\w-]{10,}|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{30,}"
    r"|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*)|-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?"
)
"""Keys of known kinds."""


class Secret:
    """A secret of the configuration. It prints as `<redacted>`, and neither JSON nor YAML can hold it.

    Only `reveal` returns the value. Pickling works, because a secret may have to reach another process.

    Args:
        value: The secret.
    """

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def reveal(self) -> Any:
        """Return the secret. Whoever calls this must not write it anywhere."""
        return self._value

    def __repr__(self) -> str:
        return HIDDEN

    def __format__(self, _: str) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> tuple[type[Secret], tuple[Any]]:
        return Secret, (self._value,)


def is_secret(name: str, value: Any = None) -> bool:
    """Whether a key contains a secret: `api_key`, `hub_token`, but not `api_key_env` or `pad_token`.

    Args:
        name: The name of the key.
        value: Its value; None decides by the name alone, so an ambiguous name is no secret.
    """
    if isinstance(value, Secret):
        return True
    words = [word.lower() for word in _WORD.findall(name)]
    while words and words[-1].isdigit():
        words.pop()
    if not words or _COUNT.fullmatch(words[0]):
        return False
    before, last = words[-2] if len(words) > 1 else "", words[-1]
    singular = last[:-1] if last.endswith("s") and last != "pass" else last
    if singular == "token" and _TEXT.fullmatch(before):
        return False
    is_field = singular == "key" and (not before or _FIELD.fullmatch(before))
    if is_field or _AMBIGUOUS.fullmatch(last) or _AMBIGUOUS.fullmatch(singular):
        return isinstance(value, str) and not _is_ordinary(value)
    return _CERTAIN.fullmatch(singular) is not None or (before, last) == ("connection", "string")


def _is_ordinary(text: str) -> bool:
    return len(text) < MIN_CHARS or _ORDINARY.fullmatch(text) is not None
