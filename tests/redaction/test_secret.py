"""The type that no one can print, and the names and forms of secrets."""

import copy
import json
import pickle
from typing import Any

import pytest
import yaml

from rft.config.commands import load_training
from rft.grading import load_grader
from rft.redaction import hide_in_message, hide_in_words, redacted, restored, revealed, sealed
from rft.redaction.secret import HIDDEN, Secret, is_secret

SECRET = "sk-planted-0123456789"
OPAQUE = "q7Zr-t2_9uXw"
FORMS = [
    SECRET,
    "sk_live_0123456789abcdefghij",
    "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "github_pat_0123456789abcdefghij_ABCDEF",
    "glpat-0123456789abcdefghij",
    "hf_abcdefghijklmnopqrstuvwxyz",
    "xoxb-0123456789-abcdef",
    "AKIA0123456789ABCDEF",
    "AIzaSyA0123456789abcdefghijklmnopqrs",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
    "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n-----END OPENSSH PRIVATE KEY-----",
]


def test_it_cannot_be_printed() -> None:
    secret = Secret(SECRET)
    printed = [str(secret), repr(secret), f"{secret}", f"{secret!r:>30}", f"{secret:x}", str([secret])]
    assert all(SECRET not in text and "<redacted>" in text for text in printed)
    with pytest.raises(TypeError):
        json.dumps({"api_key": secret})
    with pytest.raises(yaml.YAMLError):
        yaml.safe_dump({"api_key": secret})
    with pytest.raises(AttributeError):
        secret.more = 1  # type: ignore[attr-defined]
    assert not hasattr(secret, "__dict__")


def test_it_reaches_another_process() -> None:
    for again in (pickle.loads(pickle.dumps(Secret(SECRET))), copy.deepcopy(Secret(SECRET))):
        assert again == Secret(SECRET) and again.reveal() == SECRET
    assert Secret(SECRET) != SECRET
    assert len({Secret(SECRET), Secret(SECRET), Secret("other")}) == 2


@pytest.mark.parametrize(
    "name",
    [
        *("pass", "pwd", "jwt", "dsn", "webhook", "passwords", "secrets", "accessToken", "APIKey", "api_key_2"),
        *("mistral_key", "groq_key", "together_key", "subscription_key", "signing_key", "ssh_key", "x-functions-key"),
        *("connection_string", "refresh_token", "BearerTokens", "client-secret", "cookie", "slack_webhook"),
    ],
)
@pytest.mark.parametrize("value", [None, "word", OPAQUE, 12345678])
def test_names_that_are_certain(name: str, value: Any) -> None:
    assert is_secret(name, value) or (name == "BearerTokens" and value != OPAQUE)


@pytest.mark.parametrize("name", ["key", "auth", "pat", "sig", "tokens", "keys", "sort_key", "answer_key"])
def test_names_whose_value_decides(name: str) -> None:
    assert is_secret(name, OPAQUE)
    for value in (None, 3, 0.5, "answer", "final_answer", "data/answers.json", "score2", "a short sentence"):
        assert not is_secret(name, value)


@pytest.mark.parametrize(
    "name",
    [
        *("pad_token", "stop_tokens", "max_tokens", "num_secrets", "has_key", "key_header", "key_env", "token_env"),
        *("tokenizer", "keyword", "passing_score", "compass", "author", "pattern", "monkey", "pass_rate", "", "7"),
    ],
)
def test_other_names(name: str) -> None:
    assert not is_secret(name, OPAQUE)


@pytest.mark.parametrize("text", FORMS, ids=lambda text: text[:8])
def test_forms_of_keys_under_any_name(text: str) -> None:
    written = redacted({"thing": text, "list": [f"use {text}"]})
    assert written == {"thing": HIDDEN, "list": [HIDDEN]}
    assert [problem.partition(":")[0] for problem in restored(written)[1]] == ["thing", "list.0"]
    assert text not in hide_in_message(f"the service refused {text}.")
    assert text not in hide_in_words([f"graders.g.thing={text}"], {})[0]


@pytest.mark.parametrize("text", ["task-level-with-long-name", "sk-learn-and-other-words", "hf_hub", "eyJ.eyJ", "AKIA"])
def test_other_forms(text: str) -> None:
    assert redacted({"thing": text}) == {"thing": text}


def test_the_value_of_a_secret_variable_is_secret_under_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED_TOKEN", "open sesame")
    values = {"phrase": "say open sesame", "n": 1}
    written = redacted(values)
    assert written == {"phrase": "say ${oc.env:PLANTED_TOKEN}", "n": 1}
    assert restored(written) == (values, [])


def test_webhooks_are_hidden_as_a_whole() -> None:
    url = "https://hooks.example.com/services/T0/B0/x"
    assert redacted({"webhook": url, "url": url}) == {"webhook": HIDDEN, "url": url}


def test_graders_hold_their_secrets_sealed() -> None:
    entry = {"use": "exact", "api_key": SECRET, "more": [{"password": "x"}, {"limit": 3}]}
    whole = sealed({"graders": {"g": entry}})
    assert whole["graders"]["g"] == {
        "use": "exact",
        "api_key": Secret(SECRET),
        "more": [{"password": Secret("x")}, {"limit": 3}],
    }
    assert sealed(whole) == whole
    assert revealed(whole) == {"graders": {"g": entry}}
    assert redacted(whole)["graders"]["g"]["api_key"] == HIDDEN


def test_a_loaded_grader_shows_none(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("def f(completion, api_key=''): return float(api_key.startswith('sk-'))\n")
    words = ["experiment=quickstart", "~graders.correct", f"graders.g.use={tmp_path}/mine.py:f"]
    run = load_training([*words, f"graders.g.api_key={SECRET}"], str(tmp_path / "run"))
    assert SECRET not in repr(run) + str(run.model_dump())
    assert run.graders["g"]["api_key"].reveal() == SECRET
    grader = load_grader("g", run.graders["g"])
    assert SECRET not in repr(grader.entry)
    assert grader.call(completion="x") == 1.0
