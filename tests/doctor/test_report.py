"""The command, with checks of its own."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rft.doctor import Finding, report, run_doctor
from rft.doctor.trials import trial

RIGHT = Finding(check="memory", state="ok", found="12.0 GiB available")
DOUBTFUL = Finding(check="vllm", state="warn", found="not installed", remedy="install it")
WRONG = Finding(check="shared memory", state="fail", found="0.06 GiB free", remedy="--shm-size=4g")


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`doctor([findings of the machine], [of trials], *words)`: code and output."""

    def run(of_machine: list[Finding], of_trials: list[Finding], *words: str) -> tuple[int, str]:
        monkeypatch.setattr(report, "machine_findings", lambda folder: iter(of_machine))
        monkeypatch.setattr(report, "trial_findings", lambda cluster: iter(of_trials))
        output = io.StringIO()
        return run_doctor(words, console=Console(file=output, width=80)), output.getvalue()

    return run


def test_all_is_well(doctor: Any) -> None:
    assert doctor([RIGHT], [DOUBTFUL]) == (
        0,
        "ok    memory: 12.0 GiB available\nwarn  vllm: not installed\n      install it\n\nrft can run here\n",
    )


def test_a_failure_has_its_remedy_and_an_exit_code(doctor: Any) -> None:
    code, output = doctor([WRONG], [RIGHT])
    assert code == 1
    assert output == (
        "FAIL  shared memory: 0.06 GiB free\n      --shm-size=4g\nok    memory: 12.0 GiB available\n"
        "\nfailed: shared memory\n"
    )


def test_json(doctor: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor([WRONG], [RIGHT], "--json") == (1, "")
    printed = json.loads(capsys.readouterr().out)
    assert printed == {
        "ok": False,
        "findings": [
            {"check": "shared memory", "state": "fail", "found": "0.06 GiB free", "remedy": "--shm-size=4g"},
            {"check": "memory", "state": "ok", "found": "12.0 GiB available", "remedy": ""},
        ],
    }


def test_quick_starts_nothing(doctor: Any) -> None:
    assert doctor([RIGHT], [WRONG], "--quick")[0] == 0


def test_a_program_that_succeeds_fails_and_hangs() -> None:
    def run(program: str, right: str | None = None, deadline_s: float = 60) -> tuple[str, str]:
        found = trial("a", program, "word", deadline_s=deadline_s, right=right, remedy="do this")
        assert (found.remedy == "do this") == (found.state == "fail")
        return found.state, found.found.partition(" (")[0]

    assert run("import sys; print(sys.argv[1])") == ("ok", "word")
    assert run("pass", right="it started") == ("ok", "it started")
    assert run("import sys; sys.exit('no head')") == ("fail", "no head")
    assert run("raise SystemExit(3)") == ("fail", "failed without a message")
    assert run("import threading; threading.Event().wait()", deadline_s=0.5) == ("fail", "no answer within 0.5 s")


def test_a_model_whose_template_carries_no_tools(doctor: Any, tiny_model: Path, tmp_path: Path) -> None:
    no_tools = tmp_path / "no_tools.jinja"
    no_tools.write_text(
        "{%- for m in messages -%}{{- raise_exception('no tools here') if m.role == 'tool' -}}"
        "{{- '<|' + m.role + '|>' + m.content + '<|end|>' -}}{%- endfor -%}<|assistant|>"
    )
    code, output = doctor([], [], "--quick", "--model", str(tiny_model), "--chat-template", str(no_tools))
    assert code == 0
    assert "ok    episodes: a user's message is appended exactly, after any chat\n" in output
    assert "warn  tools: tools are not possible with the model's chat template" in output
    no_tools.write_text(
        no_tools.read_text().replace("{{- raise_exception('no tools here') if m.role == 'tool' -}}", "")
    )
    _, output = doctor([], [], "--quick", "--model", str(tiny_model), "--chat-template", str(no_tools))
    assert "ok    tools: calls as <call>...</call>; the results of one call and of several are appended" in output
    assert doctor([], [], "--model", str(tmp_path))[0] == 1
