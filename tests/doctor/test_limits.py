"""Limits of open files and of threads."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from rft.doctor.limits import limit_findings, open_files, threads


def test_open_files() -> None:
    assert (open_files(1024).state, open_files(1024).found) == ("ok", "at most 1024")
    assert open_files(resource.RLIM_INFINITY).found == "no limit"
    few = open_files(256)
    assert (few.state, few.found) == ("fail", "at most 256")
    assert few.remedy.startswith("raise the limit: ulimit -n 1024")


def test_threads() -> None:
    assert (threads(2000).state, threads(2000).found) == ("ok", "at most 2000")
    assert threads(float("inf")).found == "no limit"
    few = threads(100)
    assert (few.state, few.found) == ("fail", "at most 100")
    assert "ulimit -u" in few.remedy
    assert "--pids-limit" in few.remedy


@pytest.mark.parametrize(
    ("user_id", "group", "user_limit", "found"),
    [
        (1000, "max", 96365, "at most 96365"),
        (1000, "500", 96365, "at most 500"),
        (1000, None, resource.RLIM_INFINITY, "no limit"),
        (0, "max", 100, "no limit"),
    ],
)
def test_the_lowest_limit_counts_and_that_of_users_does_not_bind_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user_id: int, group: str | None, user_limit: int, found: str
) -> None:
    if group is not None:
        (tmp_path / "pids.max").write_text(f"{group}\n")
    monkeypatch.setattr("rft.reliability.limits.GROUP", tmp_path)
    monkeypatch.setattr("os.geteuid", lambda: user_id)
    monkeypatch.setattr(resource, "getrlimit", lambda limit: (user_limit, user_limit))
    assert [finding.found for finding in limit_findings() if finding.check == "processes and threads"] == [found]
