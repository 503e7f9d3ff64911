"""A whole run whose parts speak out every secret of its configuration: no file of it and no line on the terminal may.

The end-to-end test in tests/e2e/test_train.py does the same with real processes, their logs and their arguments.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rft.errors import LearnError, WaitTimeout
from rft.events import SamplerLost, Warned
from rft.run.training import Training
from rft.waiting import wait_for, waiting

KEY, FORM = "planted-0123456789", "ghp_0123456789abcdefghijABCDEFGHIJ0123"
PASSWORD, CODE = "pass-in-address", "c0de-12345"
NAMED, REFERRED = "of-a-named-variable", "of-a-reference-to-a-variable"
SECRETS = (KEY, FORM, PASSWORD, CODE, NAMED, REFERRED)
"""Under a telling name, of a known form, in an address (two), from a named variable, and from a reference to one."""
ADDRESS = f"https://ada:{PASSWORD}@judge/v1?code={CODE}"
SPOKEN = f"{ADDRESS} refuses {KEY}, {FORM}, {NAMED} and {REFERRED}"


def words(folder: Path) -> list[str]:
    """Configure a grader with all secrets."""
    file = folder / "mine.py"
    file.write_text("def keyed(completion, api_key, phrase, url, key_env, pwd):\n    return 1.0\n")
    options = {
        "use": f"{file}:keyed",
        "api_key": KEY,
        "phrase": FORM,
        "url": f"'{ADDRESS}'",
        "key_env": "PLANTED_NAMED",
        "pwd": "${oc.env:PLANTED_REFERRED}",
    }
    return ["~graders.correct", *(f"graders.keyed.{name}={value}" for name, value in options.items())]


@pytest.mark.parametrize("ends_well", [True, False])
def test_no_file_and_no_line_has_a_secret(
    ends_well: bool,
    training: Callable[..., Training],
    parts: Any,
    printed: io.StringIO,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PLANTED_NAMED", NAMED)
    monkeypatch.setenv("PLANTED_REFERRED", REFERRED)

    async def speak() -> None:
        with waiting(f"a reply: {SPOKEN}"), suppress(WaitTimeout):
            await wait_for(asyncio.Event().wait(), what=f"another reply: {SPOKEN}", deadline_s=0.01)
        parts.emit(Warned(text=SPOKEN))
        parts.emit(SamplerLost(sampler="sampler 1", reason=SPOKEN, num_completions=1))

    def fail(step: int) -> None:
        if step == 3 and not ends_well:
            raise LearnError(SPOKEN)

    parts.grading, parts.learning = speak, fail
    run = training(*words(tmp_path))
    run.recorder.config(run.run.model_dump())
    with suppress(LearnError):
        asyncio.run(run.train())
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    written = {"config.yaml", "metrics.jsonl", "rollouts.jsonl", "events.jsonl", "summary.json", "heartbeat.json"}
    assert written | {"driver.txt"} <= {path.name for path in files}
    assert "<redacted>" in (tmp_path / "run" / "events.jsonl").read_text()
    for secret in SECRETS:
        assert [path for path in files if secret.encode() in path.read_bytes()] == []
        assert secret not in printed.getvalue()
