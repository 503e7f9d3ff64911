"""Recognizes keys and passwords of a configuration by their names, and hides them wherever they would be written.

    {api_key: sk-1}                     {api_key: <redacted>}
    {api_key: sk-1}, with JUDGE_KEY=sk-1 in the environment       {api_key: ${oc.env:JUDGE_KEY}}
    {headers: {Authorization: x}}       {headers: {Authorization: <redacted>}}
    https://ada:pw@host/f?code=x        https://<redacted>@host/f?code=<redacted>

A value from the environment becomes a reference, which `restored` resolves. All other secrets are removed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

HIDDEN = "<redacted>"

MIN_CHARS = 8
"""A shorter secret is hidden at its key, but not searched for in other texts, where it would match by chance."""

_SECRET = re.compile(
    r"(^|_)((api|access|private|secret|auth|account|service|openai|judge|azure|anthropic|google|hf|wandb)_?keys?"
    r"|(\w*_)?(token|secret|credentials?)|password|passwd|passphrase|authorization|bearer|cookie)$"
)
_TOKENS_OF_TEXT = re.compile(
    r"(bos|eos|pad|unk|sep|cls|mask|stop|start|end|think|image|audio|video|max|min|num)_token$"
)
_HARMLESS_HEADERS = ("accept", "accept_encoding", "accept_language", "content_type", "user_agent")
_REFERENCE = re.compile(r"\$\{oc\.env:(\w+)\}")
_SECRET_VARIABLE = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH")
_USER_IN_URL = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_SECRET_IN_URL = re.compile(
    r"(?<=[?&])(code|sig|[\w-]*(?:key|token|secret|password|signature|credential))=([^&#\s]+)", re.I
)
_PAIR = re.compile(r"([\w.-]+)\s*[:=]\s*(\$\{[^}]*\}|\"[^\"]*\"|'[^']*'|[^,{}\[\]]+)")
_SCHEME = re.compile(r"(?:Bearer|Basic|Token|ApiKey)\s+", re.I)


def is_secret(name: str) -> bool:
    """Whether a key with this name contains a secret: `api_key`, `hub_token`, but not `api_key_env` or `pad_token`."""
    plain = name.lower().replace("-", "_")
    return bool(_SECRET.search(plain)) and not _TOKENS_OF_TEXT.search(plain)


def redacted(values: Any) -> Any:
    """Return a copy of a configuration with its secrets hidden.

    Args:
        values: Plain containers.
    """
    secrets = dict(_secrets(values))
    return _replaced(values, {place: _hidden(value) for place, value in secrets.items()})


def restored(values: Any) -> tuple[Any, list[str]]:
    """Return a configuration with the secrets of the environment, and the problems of missing secrets.

    Args:
        values: Result of `redacted`.
    """
    problems: list[str] = []
    again: dict[tuple[str | int, ...], Any] = {}
    for place, value in _secrets(values):
        key = ".".join(map(str, place))
        if HIDDEN in str(value):
            problems.append(
                f"{key}: a secret, which config.yaml does not hold; give it again, best as "
                f"{key}='${{oc.env:NAME_OF_A_VARIABLE}}'"
            )
        elif missing := [name for name in _REFERENCE.findall(str(value)) if not os.environ.get(name)]:
            problems.append(f"{key}: the environment variable {missing[0]}, which holds it, is not set")
        else:
            again[place] = (
                _REFERENCE.sub(lambda match: os.environ[match[1]], value) if isinstance(value, str) else value
            )
    return _replaced(values, again), problems


def hidden_keys(values: Any) -> list[str]:
    """Return the dotted keys that `redacted` has hidden."""
    return [".".join(map(str, place)) for place, value in _secrets(values) if HIDDEN in str(value)]


def secrets_in(values: Any) -> tuple[str, ...]:
    """Return the secrets of a configuration, including those of named environment variables (`api_key_env`)."""
    written = [text for _, value in _secrets(values) for text in _texts(value)]
    named = [os.environ.get(str(value), "") for place, value in _leaves(values) if str(place[-1]).endswith("_env")]
    # The longest first: hiding a part of a secret would leave the rest readable.
    return tuple(sorted({text for text in [*written, *named] if len(text) >= MIN_CHARS}, key=len, reverse=True))


def hide(text: str, secrets: Sequence[str]) -> str:
    """Return a text with the secrets hidden."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


def hide_in_message(text: str) -> str:
    """Return a library's message without secrets of the environment and of URLs."""
    held = [one for name, one in os.environ.items() if _SECRET_VARIABLE.search(name) and len(one) >= MIN_CHARS]
    return _without_url_secrets(hide(text, sorted(held, key=len, reverse=True)))


def has_url_secret(address: str) -> bool:
    """Whether an address contains a user, a password or a key."""
    return _is_url_with_secret(address)


def hide_in_words(words: Sequence[str], values: Any) -> list[str]:
    """Return a command line with its secrets hidden.

    Args:
        words: The arguments.
        values: The resulting configuration.
    """
    secrets = secrets_in(values)
    return [hide(_PAIR.sub(_without_value, word), secrets) for word in words]


def searched_secrets(words: Iterable[str]) -> list[str]:
    """Return a problem for each secret among the settings of a sweep, which are overrides of the command line.

    Study and tables store all settings, so secrets cannot vary.
    """
    keys = [word.lstrip("+").partition("=")[0] for word in words if hide_in_words([word], {}) != [word]]
    return [
        f"{key}: several values of a secret would be written down; give one, or variables, as "
        f"{key}='${{oc.env:FIRST_KEY}}','${{oc.env:SECOND_KEY}}'"
        for key in dict.fromkeys(keys)
    ]


def _without_value(pair: re.Match[str]) -> str:
    name, value = pair[1].rpartition(".")[2], pair[2]
    return pair[0].removesuffix(value) + HIDDEN if is_secret(name) and not _REFERENCE.search(value) else pair[0]


def _leaves(values: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield every value that is not a container, with its path."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _leaves(value, (*place, key))
    elif isinstance(values, (list, tuple)):
        for number, value in enumerate(values):
            yield from _leaves(value, (*place, number))
    elif place:
        yield place, values


def _secrets(values: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield every value that is secret or, for a URL, contains a secret."""
    for place, value in _leaves(values):
        if isinstance(value, bool) or value in (None, ""):
            continue
        names = [str(step) for step in (place[2:] if place[0] == "graders" else place)]  # graders have arbitrary names
        if any(map(is_secret, names)) or _is_header(names) or _is_url_with_secret(value):
            yield place, value


def _is_header(names: Sequence[str]) -> bool:
    """Whether a path is in `headers`, whose names, such as `X-Functions-Key`, are arbitrary."""
    within = any(name == "headers" or name.endswith("_headers") for name in names[:-1])
    return within and names[-1].lower().replace("-", "_") not in _HARMLESS_HEADERS


def _is_url_with_secret(value: Any) -> bool:
    text = value if isinstance(value, str) and "://" in value else ""
    return bool(_USER_IN_URL.search(text) or _SECRET_IN_URL.search(text))


def _hidden(value: Any) -> Any:
    text = str(value)
    if _REFERENCE.search(text):
        return value
    held = {name: one for name, one in os.environ.items() if _SECRET_VARIABLE.search(name) and len(one) >= MIN_CHARS}
    for name, one in sorted(held.items(), key=lambda item: len(item[1]), reverse=True):
        if one in text:
            return text.replace(one, f"${{oc.env:{name}}}")
    if "://" not in text:
        return HIDDEN
    return _without_url_secrets(text)


def _without_url_secrets(text: str) -> str:
    return _SECRET_IN_URL.sub(rf"\1={HIDDEN}", _USER_IN_URL.sub(HIDDEN, text))


def _texts(value: Any) -> list[str]:
    """Return the secret parts of a value: parts of a URL or of `Bearer ...`, otherwise the whole value."""
    text = str(value)
    if "://" in text:
        return _USER_IN_URL.findall(text) + [match[2] for match in _SECRET_IN_URL.finditer(text)]
    return [text, _SCHEME.sub("", text, count=1)]


def _replaced(values: Any, by_place: Mapping[tuple[str | int, ...], Any], place: tuple[str | int, ...] = ()) -> Any:
    if isinstance(values, Mapping):
        return {key: _replaced(value, by_place, (*place, key)) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_replaced(value, by_place, (*place, number)) for number, value in enumerate(values)]
    return by_place.get(place, values)
