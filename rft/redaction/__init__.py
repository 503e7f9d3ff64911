"""Hides the keys and passwords of a configuration wherever they would be written.

    {api_key: sk-1}                     {api_key: <redacted>}
    {api_key: sk-1}, with JUDGE_KEY=sk-1 in the environment       {api_key: ${oc.env:JUDGE_KEY}}
    {headers: {Authorization: x}}       {headers: {Authorization: <redacted>}}
    https://ada:pw@host/f?code=x        https://<redacted>@host/f?code=<redacted>

A value from the environment becomes a reference, which `restored` resolves. All other secrets are removed.
`rft.redaction.secret` recognizes secrets. Those of graders are `Secret` objects, so code that forgets to hide them
fails instead of writing them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rft.redaction.secret import FORMS, HIDDEN, MIN_CHARS, Secret, is_secret

_HARMLESS_HEADERS = ("accept", "accept_encoding", "accept_language", "content_type", "user_agent")
_REFERENCE = re.compile(r"\$\{oc\.env:(\w+)\}")
_SECRET_VARIABLE = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH")
_USER_IN_URL = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_SECRET_IN_URL = re.compile(
    r"(?<=[?&])(code|sig|[\w-]*(?:key|token|secret|password|signature|credential))=([^&#\s]+)", re.I
)
_PAIR = re.compile(r"(?<![\w.-])([\w.-]+)\s*[:=]\s*(\$\{[^}]*\}|\"[^\"]*\"|'[^']*'|[^,{}\[\]]+)")
_SCHEME = re.compile(r"(?:Bearer|Basic|Token|ApiKey)\s+", re.I)

Place = tuple[str | int, ...]
"""The keys and indices that lead to a value."""


def redacted(values: Any) -> Any:
    """Return a copy of a configuration with its secrets hidden.

    Args:
        values: Plain containers.
    """
    return _replaced(values, {place: _hidden(value) for place, value in _secrets(values)})


def sealed(values: Any) -> Any:
    """Return a copy of a configuration with its secrets as `Secret` objects.

    Args:
        values: Plain containers.
    """
    return _replaced(values, {place: Secret(value) for place, value in _secrets(values)})


def revealed(values: Any) -> Any:
    """Return a copy of a configuration with the values of its `Secret` objects, for a grader or another process."""
    secrets = {place: leaf.reveal() for place, leaf in _leaves(values) if isinstance(leaf, Secret)}
    return _replaced(values, secrets)


def restored(values: Any) -> tuple[Any, list[str]]:
    """Return a configuration with the secrets of the environment, and the problems of missing secrets.

    Args:
        values: Result of `redacted`.
    """
    problems: list[str] = []
    again: dict[Place, Any] = {}
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
    """Return a library's message without secrets of the environment and of URLs, and without keys of known forms."""
    return _without_url_secrets(FORMS.sub(HIDDEN, hide(text, list(_of_environment()))))


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
    return [FORMS.sub(HIDDEN, hide(_PAIR.sub(_without_value, word), secrets)) for word in words]


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
    if _REFERENCE.search(value) or not is_secret(name, value.strip("'\"")):
        return pair[0]
    return pair[0].removesuffix(value) + HIDDEN


def _leaves(values: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yield every value that is not a container, with its path."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _leaves(value, (*place, key))
    elif isinstance(values, (list, tuple)):
        for number, value in enumerate(values):
            yield from _leaves(value, (*place, number))
    elif place:
        yield place, values


def _secrets(values: Any) -> Iterator[tuple[Place, Any]]:
    """Yield every value that is secret or contains a secret. `Secret` objects are revealed."""
    held = _of_environment()
    for place, leaf in _leaves(values):
        value = leaf.reveal() if isinstance(leaf, Secret) else leaf
        if isinstance(value, bool) or value in (None, ""):
            continue
        names = [str(step) for step in (place[2:] if place[0] == "graders" else place)]  # graders have arbitrary names
        if (
            isinstance(leaf, Secret)
            or any(is_secret(name, value) for name in names)
            or _is_header(names)
            or (isinstance(value, str) and _has_secret(value, held))
        ):
            yield place, value


def _has_secret(text: str, held: Iterable[str]) -> bool:
    """Whether a text has a secret under any name: in a URL, of a known form, of the environment, or a hidden one."""
    return bool(
        _is_url_with_secret(text)
        or FORMS.search(text)
        or HIDDEN in text
        or _REFERENCE.search(text)
        or any(secret in text for secret in held)
    )


def _of_environment() -> dict[str, str]:
    """Return the secrets of the environment, the longest first, with the names of their variables."""
    held = [
        (value, name) for name, value in os.environ.items() if _SECRET_VARIABLE.search(name) and len(value) >= MIN_CHARS
    ]
    return dict(sorted(held, key=lambda one: len(one[0]), reverse=True))


def _is_header(names: Sequence[str]) -> bool:
    """Whether a path is in `headers`, whose names, such as `X-Functions-Key`, are arbitrary."""
    within = any(name == "headers" or name.endswith("_headers") for name in names[:-1])
    return within and names[-1].lower().replace("-", "_") not in _HARMLESS_HEADERS


def _is_url_with_secret(text: str) -> bool:
    return "://" in text and bool(_USER_IN_URL.search(text) or _SECRET_IN_URL.search(text))


def _hidden(value: Any) -> Any:
    text = str(value)
    if _REFERENCE.search(text):
        return value
    for secret, name in _of_environment().items():
        if secret in text:
            return text.replace(secret, f"${{oc.env:{name}}}")
    return _without_url_secrets(text) if _is_url_with_secret(text) else HIDDEN


def _without_url_secrets(text: str) -> str:
    return _SECRET_IN_URL.sub(rf"\1={HIDDEN}", _USER_IN_URL.sub(HIDDEN, text))


def _texts(value: Any) -> list[str]:
    """Return the secret parts of a value: parts of a URL or of `Bearer ...`, otherwise the whole value."""
    text = str(value)
    if _is_url_with_secret(text):
        return _USER_IN_URL.findall(text) + [match[2] for match in _SECRET_IN_URL.finditer(text)]
    return [text, _SCHEME.sub("", text, count=1)]


def _replaced(values: Any, by_place: Mapping[Place, Any], place: Place = ()) -> Any:
    if isinstance(values, Mapping):
        return {key: _replaced(value, by_place, (*place, key)) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_replaced(value, by_place, (*place, number)) for number, value in enumerate(values)]
    return by_place.get(place, values)
