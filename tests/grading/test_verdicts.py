"""What audits said, kept and asked for."""

import json

import pytest

from rft.grading.verdicts import (
    NEVER,
    Verdict,
    audit_state,
    identities,
    keep_verdict,
    last_verdict,
    own_functions,
    unaudited,
    verdict_problems,
)

MINE = "def grader(completion, task): return 1.0\ndef other(completion, task): return 0.0\n"


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    return file


def entry(name="grader", **others):
    return {"use": f"mine.py:{name}", **others}


def judged(folder, entries, verdict="failed", *, time="2026-11-20T12:00:00+00:00", failed=("enumeration",)):
    said = Verdict(
        verdict=verdict,
        failed=tuple(failed) if verdict == "failed" else (),
        time=time,
        report="runs/audit/x",
        graders=identities(entries),
        functions=own_functions(entries),
    )
    keep_verdict(folder, said)
    return said


def test_what_was_never_audited_may_train(tmp_path, mine):
    entries = {"main": entry()}
    assert last_verdict(tmp_path / "audits", entries) is None
    assert verdict_problems(tmp_path / "audits", entries) == verdict_problems(None, entries) == []
    assert audit_state(tmp_path / "audits", entries) == audit_state(None, entries) == NEVER


def test_the_last_verdict_counts(tmp_path, mine):
    entries = {"main": entry()}
    said = judged(tmp_path, entries, failed=("wrong gold", "enumeration"))
    assert last_verdict(tmp_path, entries) == said
    (problem,) = verdict_problems(tmp_path, entries)
    for text in (
        "wrong gold, enumeration",
        "2026-11-20T12:00:00",
        "runs/audit/x",
        "audit=warn",
        "audit=off",
        "2 probes",
    ):
        assert text in problem
    judged(tmp_path, entries, "passed", time="2026-11-21T12:00:00+00:00")
    assert verdict_problems(tmp_path, entries) == []
    assert audit_state(tmp_path, entries) == "passed"
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_names_weights_and_deadlines_make_no_other_grader(tmp_path, mine):
    judged(tmp_path, {"main": entry(weight=1.0)})
    assert verdict_problems(tmp_path, {"another": entry(weight=0.5, timeout_s=3, retries=1)})
    assert verdict_problems(tmp_path, {"main": entry(), "watch": entry("other", weight=0)})


def test_what_was_changed_was_never_audited(tmp_path, mine):
    entries = {"main": entry()}
    judged(tmp_path, entries)
    assert verdict_problems(tmp_path, {"main": entry("other")}) == []
    assert verdict_problems(tmp_path, {"main": entry(range=[0, 1])}) == []
    mine.write_text(MINE + "# mended\n")
    assert last_verdict(tmp_path, entries) is None


def test_a_grader_that_failed_alone_fails_in_company_until_that_was_audited(tmp_path, mine):
    both = {"main": entry(), "more": entry("other", weight=0.1)}
    judged(tmp_path, {"main": entry()})
    assert verdict_problems(tmp_path, both)
    judged(tmp_path, both, "passed")
    assert verdict_problems(tmp_path, both) == []
    assert verdict_problems(tmp_path, {"main": entry()})


def test_a_composite_is_known_by_its_childrens_code(tmp_path, mine):
    entries = {"main": {"use": "composite", "how": "mean", "of": {"a": entry()}}}
    before = identities(entries)
    mine.write_text(MINE + "# mended\n")
    assert identities(entries) != before


def test_what_cannot_be_read_is_no_verdict(tmp_path, mine):
    entries = {"main": entry()}
    judged(tmp_path, entries)
    (file,) = tmp_path.glob("*.json")
    for text in ("", "[]", "{}", json.dumps({"verdict": "failed", "failed": 3}), "\x00"):
        file.write_text(text)
        assert last_verdict(tmp_path, entries) is None


def test_graders_without_an_audit(tmp_path, mine):
    composite = {"use": "composite", "how": "mean", "of": {"a": entry("other"), "b": {"use": "exact"}}}
    entries = {"main": entry(), "mixed": composite, "built_in": {"use": "exact"}, "watch": entry(weight=0)}
    missing = unaudited(tmp_path / "audits", entries)
    assert [(one.name, one.function, one.last) for one in missing] == [
        ("main", "mine.py:grader", None),
        ("mixed", "mine.py:other", None),
    ]
    judged(tmp_path, {"main": entry(), "mixed": composite}, "passed")
    assert unaudited(tmp_path, entries) == []


@pytest.mark.parametrize("verdict", ["passed", "failed"])
def test_a_grader_that_changed_since_its_audit(tmp_path, mine, verdict):
    entries = {"main": entry()}
    old = judged(tmp_path, entries, verdict)
    assert unaudited(tmp_path, entries) == []
    mine.write_text(MINE + "# changed\n")
    [grader] = unaudited(tmp_path, entries)
    assert grader.last == old
    judged(tmp_path, entries, "passed", time="2026-11-21T12:00:00+00:00")
    assert unaudited(tmp_path, entries) == []


def test_an_inconclusive_audit_does_not_count(tmp_path, mine):
    entries = {"main": entry()}
    judged(tmp_path, entries, "inconclusive")
    [grader] = unaudited(tmp_path, entries)
    assert grader.last.verdict == "inconclusive"
    assert (verdict_problems(tmp_path, entries), audit_state(tmp_path, entries)) == ([], "inconclusive")


def test_a_verdict_without_functions_is_read(tmp_path, mine):
    judged(tmp_path, {"main": entry()})
    (file,) = tmp_path.glob("*.json")
    content = json.loads(file.read_text())
    del content["functions"]
    file.write_text(json.dumps(content))
    assert last_verdict(tmp_path, {"main": entry()}).functions == ()
