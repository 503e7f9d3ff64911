"""What is secret in a configuration: found, hidden wherever it is written, and found again on resume."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from rft.config.commands import load_training, with_hydra
from rft.errors import ConfigError
from rft.grading import grader_problems
from rft.redaction import hide, hide_in_words, redacted, restored, secrets_in
from rft.redaction.secret import HIDDEN, is_secret
from rft.run_folder.recorder import Recorder

SECRET = "sk-planted-0123456789"


@pytest.mark.parametrize(
    "name",
    ["api_key", "apikey", "API-Key", "x-api-key", "hub_token", "token", "client_secret", "password", "Authorization"],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    ["api_key_env", "key_env", "key_header", "max_tokens", "pad_token", "tokenizer", "key", "column", "num_secrets"],
)
def test_names_of_other_things(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"api_key": SECRET, "limit": 3}, {"api_key": HIDDEN, "limit": 3}),
        ({"password": 12345678, "token": None, "secret": ""}, {"password": HIDDEN, "token": None, "secret": ""}),
        ({"hub_token": True, "token": "${oc.env:HF}"}, {"hub_token": True, "token": "${oc.env:HF}"}),
        (
            {"headers": {"X-Any": SECRET, "Content-Type": "text/plain"}},
            {"headers": {"X-Any": HIDDEN, "Content-Type": "text/plain"}},
        ),
        ([{"credentials": {"user": "ada", "key": [SECRET]}}], [{"credentials": {"user": HIDDEN, "key": [HIDDEN]}}]),
        (
            {"url": f"https://ada:{SECRET}@host/f?a=1&code={SECRET}&b=2"},
            {"url": "https://<redacted>@host/f?a=1&code=<redacted>&b=2"},
        ),
        ({"url": "https://host/f?a=1", "path": "a@b?key=c"}, {"url": "https://host/f?a=1", "path": "a@b?key=c"}),
        ({"graders": {"token": {"use": "exact"}}}, {"graders": {"token": {"use": "exact"}}}),
    ],
    ids=str,
)
def test_what_is_written(value: Any, written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED_KEY", "of another value")
    assert redacted(value) == written


def test_a_secret_of_the_environment_becomes_a_reference_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED_KEY", SECRET)
    monkeypatch.setenv("PLANTED_NAME", "sk-planted")  # not named as a secret, so that nothing is said about it
    values = {"api_key": SECRET, "headers": {"Authorization": f"Bearer {SECRET}"}}
    written = redacted(values)
    assert written == {
        "api_key": "${oc.env:PLANTED_KEY}",
        "headers": {"Authorization": "Bearer ${oc.env:PLANTED_KEY}"},
    }
    assert restored(written) == (values, [])
    monkeypatch.delenv("PLANTED_KEY")
    _, problems = restored(written)
    assert problems[0] == "api_key: the environment variable PLANTED_KEY, which holds it, is not set"


def test_what_is_hidden_must_be_given_again() -> None:
    values, problems = restored({"a": {"api_key": HIDDEN}, "url": f"https://{HIDDEN}@host", "text": HIDDEN})
    assert values == {"a": {"api_key": HIDDEN}, "url": f"https://{HIDDEN}@host", "text": HIDDEN}
    assert [problem.partition(":")[0] for problem in problems] == ["a.api_key", "url", "text"]
    assert "give it again, best as a.api_key='${oc.env:NAME_OF_A_VARIABLE}'" in problems[0]


def test_texts_are_searched_for_the_secrets_of_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED", "of-the-environment")
    secrets = secrets_in({"headers": {"X": f"Bearer {SECRET}"}, "key_env": "PLANTED", "password": "short"})
    text = f"status 401: no {SECRET} here, nor of-the-environment; a short Bearer"
    assert hide(text, secrets) == "status 401: no <redacted> here, nor <redacted>; a short Bearer"


@pytest.mark.parametrize(
    ("word", "written"),
    [
        (f"graders.g.api_key={SECRET}", "graders.g.api_key=<redacted>"),
        ("++graders.g.api_key=a", "++graders.g.api_key=<redacted>"),
        ("graders.g.api_key='a, b'", "graders.g.api_key=<redacted>"),
        ("graders.g={use: f, api_key: short, limit: 3}", "graders.g={use: f, api_key: <redacted>, limit: 3}"),
        (f"graders.g.headers.X={SECRET}", "graders.g.headers.X=<redacted>"),
        ("graders.g.api_key=${oc.env:KEY}", "graders.g.api_key=${oc.env:KEY}"),
        ("sampler.max_completion_tokens=8", "sampler.max_completion_tokens=8"),
        ("graders.g.api_key_env=KEY", "graders.g.api_key_env=KEY"),
    ],
)
def test_the_command_line(word: str, written: str) -> None:
    assert hide_in_words([word], {"graders": {"g": {"headers": {"X": SECRET}}}}) == [written]


def started(folder: Path, *words: str) -> Path:
    """The folder of a run of the quickstart with a grader that has a key."""
    (folder / "mine.py").write_text("def f(completion, api_key=''): return 1\n")
    grader = ["~graders.correct", f"graders.g.use={folder}/mine.py:f"]
    run = load_training(["experiment=quickstart", *grader, *words], str(folder))
    Recorder(folder).config(run.model_dump())
    assert SECRET not in (folder / "config.yaml").read_text()
    return folder


def test_resume_asks_for_what_was_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = started(tmp_path, f"graders.g.api_key={SECRET}")
    with pytest.raises(ConfigError) as caught:
        load_training([f"resume={folder}"])
    (problem,) = caught.value.problems
    assert problem.startswith("graders.g.api_key: a secret, which config.yaml does not hold; give it again")
    assert load_training([f"resume={folder}", f"graders.g.api_key={SECRET}"]).graders["g"]["api_key"].reveal() == SECRET
    monkeypatch.setenv("PLANTED", SECRET)
    again = load_training([f"resume={folder}", "graders.g.api_key=${oc.env:PLANTED}"])
    assert again.graders["g"]["api_key"].reveal() == SECRET
    with pytest.raises(ConfigError, match=r"graders\.g\.use=exact: cannot be changed on resume"):
        load_training([f"resume={folder}", f"graders.g.api_key={SECRET}", "graders.g.use=exact"])


def test_resume_takes_from_the_environment_what_came_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED_KEY", SECRET)
    folder = started(tmp_path, "graders.g.api_key=${oc.env:PLANTED_KEY}")
    monkeypatch.setenv("PLANTED_KEY", "sk-of-tomorrow")
    assert load_training([f"resume={folder}"]).graders["g"]["api_key"].reveal() == "sk-of-tomorrow"


def test_what_hydra_writes_about_a_multirun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["rft"])
    seen = []
    words = ["-m", "hydra/launcher=basic", "experiment=quickstart", "loop.steps=1,2", f"graders.g.api_key={SECRET}"]
    assert with_hydra("train", words, lambda overrides, _: seen.append(overrides) or 0) == 0
    assert all(f"graders.g.api_key={SECRET}" in overrides for overrides in seen)
    (file,) = tmp_path.rglob("multirun.yaml")
    assert SECRET not in file.read_text()
    assert yaml.safe_load(file.read_text())["hydra"]["overrides"]["task"]


@pytest.mark.parametrize(
    "words",
    [
        [f"learner.trl.hub_token={SECRET}"],  # it would be in TRL's training_args.bin
        [f"graders.g.api_key={SECRET}=="],
        [f"graders.g.api_key={SECRET},b"],
        [f"graders=[{{api_key: {SECRET}}}]"],
        [f"graders.g={{use: mine.py:refusing, api_key: {SECRET}}}"],
        [f"graders.g={{openai: {{type: endpoint, url: 'http://h', headers: {{A: {SECRET}, B: [1]}}}}}}"],
        [f"graders.g={{use: exact, url: 'https://h?key={SECRET}'}}"],
    ],
    ids=lambda words: words[-1].replace(SECRET, "SECRET"),
)
def test_errors_do_not_say_them(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refusing = "def __post_init__(self): raise ValueError(f'{self.api_key} is no key')"
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\n@dataclass\nclass refusing:\n    api_key: str\n"
        f"    {refusing}\n    def grade(self, completion): return 1\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_training(["experiment=quickstart", *words])
    assert SECRET not in str(caught.value)
    assert caught.value.problems


def test_a_short_secret_is_hidden_where_it_stands() -> None:
    (found,) = grader_problems("g", {"use": "exact", "api_key": "abc"})
    assert "abc" not in found
