"""One command that starts a run, and continues it once it has begun."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rft.config.command_line import read_line
from rft.config.commands import load_training
from rft.errors import ConfigError
from rft.redaction import redacted

WORDS = ("experiment=quickstart", "sampler=fake", "learner=fake", "or_resume=true")


def begin(folder: Path, *words: str, **changes: Any) -> None:
    """Write the configuration of a run that has begun, as rft writes it."""
    run = load_training([*WORDS, *words, "or_resume=false"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(redacted(run.model_dump()) | changes))


def test_a_new_run_starts(tmp_path: Path) -> None:
    run = load_training([*WORDS, f"output_dir={tmp_path / 'run'}"])
    assert (run.or_resume, run.resume, run.output_dir) == (True, None, str(tmp_path / "run"))


def test_a_run_that_has_begun_continues_with_the_commands_own_settings(tmp_path: Path) -> None:
    begin(tmp_path)
    run = load_training([*WORDS, f"output_dir={tmp_path}", "loop.steps=77", "evaluation.every_steps=3"])
    assert (run.resume, run.output_dir) == (str(tmp_path), str(tmp_path))
    assert (run.loop.steps, run.evaluation.every_steps) == (77, 3)


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    begin(tmp_path, "learner.learning_rate=0.25", "graders.second.use=exact")
    with pytest.raises(ConfigError) as caught:
        load_training([*WORDS, f"output_dir={tmp_path}", "learner.learning_rate=0.5", "seed=3"])
    assert caught.value.title.startswith(f"or_resume=true: {tmp_path} holds a run with another configuration")
    assert caught.value.problems == (
        "graders.second.use=None: the run began with exact",
        "learner.learning_rate=0.5: the run began with 0.25",
        "seed=3: the run began with 0",
    )


def test_secrets_are_those_of_the_command(tmp_path: Path) -> None:
    key = "graders.judge.api_key="
    (tmp_path / "my.py").write_text("def f(completion, api_key):\n    return 1.0\n")
    judge = (f"graders.judge.use={tmp_path}/my.py:f", "graders.judge.weight=1")
    begin(tmp_path, *judge, f"{key}first-secret")
    assert "first-secret" not in (tmp_path / "config.yaml").read_text()
    run = load_training([*WORDS, *judge, f"{key}second-secret", f"output_dir={tmp_path}"])
    assert (run.resume, run.graders["judge"]["api_key"].reveal()) == (str(tmp_path), "second-secret")


def test_a_configuration_of_an_older_version_has_the_defaults_of_new_keys(tmp_path: Path) -> None:
    begin(tmp_path)
    values = yaml.safe_load((tmp_path / "config.yaml").read_text())
    del values["or_resume"], values["loop"]["notice"], values["loop"]["stop_timeout_s"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    assert load_training([*WORDS, f"output_dir={tmp_path}"]).resume == str(tmp_path)


def test_where_the_folder_is_gone_the_copy_is_continued(tmp_path: Path) -> None:
    storage, folder = f"storage={tmp_path / 'store'}", tmp_path / "runs" / "first"
    assert load_training([*WORDS, storage, f"output_dir={folder}"]).resume is None
    copy = tmp_path / "store" / "quickstart" / "first"
    begin(copy, f"output_dir={folder}", storage)
    run = load_training([*WORDS, storage, f"output_dir={folder}"])
    assert (run.resume, run.storage, run.output_dir) == (str(copy), str(copy), str(folder))
    begin(folder, storage, f"output_dir={folder}")
    assert load_training([*WORDS, storage, f"output_dir={folder}"]).resume == str(folder)


def test_without_a_folder_of_its_own_a_run_would_never_be_found() -> None:
    with pytest.raises(ConfigError, match=r"or_resume=true: give output_dir=<folder>, too"):
        load_training(WORDS)


def test_the_option_is_the_key() -> None:
    assert read_line(["--or-resume", "seed=1"], "rft train").words == ["or_resume=true", "seed=1"]
    assert read_line(["--or-resume"], "rft sweep").words == ["or_resume=true"]
    with pytest.raises(ConfigError, match="--or-resume: rft evaluate has no such option"):
        read_line(["--or-resume"], "rft evaluate")


@pytest.mark.parametrize("notice", ["/run/notice", "http://169.254.169.254/latest/meta-data/spot/instance-action"])
def test_a_notice_is_a_file_or_an_address(notice: str) -> None:
    assert load_training([*WORDS, "or_resume=false", f"loop.notice='{notice}'"]).loop.notice == notice


def test_an_address_that_cannot_be_polled_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"loop.notice=.*should be a file, or an address with http:// or https://"):
        load_training([*WORDS, "or_resume=false", "loop.notice='s3://bucket/notice'"])
