"""A grader's file may take for ever to import, end the process, or start threads: none of it ends rft, or keeps it."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from rft.grading import grader_problems, load_grader
from rft.grading.loading import importing
from rft.grading.loading.targets import import_file


def import_text(folder, text):
    file = folder / "mine.py"
    file.write_text(text)
    return import_file(file)


@pytest.mark.parametrize(
    "text", ["import time\ntime.sleep(1000)", "try:\n    while True: pass\nexcept Exception: pass"]
)
def test_an_import_has_a_deadline(tmp_path, monkeypatch, text):
    monkeypatch.setattr(importing, "IMPORT_S", 0.05)
    with pytest.raises(ValueError, match=r"importing it failed: it did not end within 0.05 s \(.*mine.py:2\)"):
        import_text(tmp_path, text)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_long_import_is_mentioned(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(importing, "REMINDER_S", 0.01)
    import_text(tmp_path, "import time\ntime.sleep(0.05)")
    assert "mine.py: 0 s so far; it is stopped after 240 s" in caplog.text


def test_ctrl_c_during_an_import_is_no_fault_of_the_file(tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # started in the background, it is ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            import_text(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nfor _ in range(10**7): pass")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_was_replaced_for_the_import_is_back_after_it(tmp_path):
    before = (os._exit, threading.Thread.start, signal.getsignal(signal.SIGALRM))
    import_text(tmp_path, "x = 1")
    assert (os._exit, threading.Thread.start, signal.getsignal(signal.SIGALRM)) == before


def test_a_timer_that_ran_before_goes_on(tmp_path):
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 100.0)
        import_text(tmp_path, "x = 2")
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 100
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_process_that_the_import_forks_ends_as_it_likes(tmp_path):
    text = "import os\nforked = os.fork()\nif forked == 0: os._exit(7)\nstatus = os.waitpid(forked, 0)[1]"
    assert os.waitstatus_to_exitcode(import_text(tmp_path, text).status) == 7


def test_a_thread_that_an_import_started_does_not_keep_the_process(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()")
    program = "import sys; from pathlib import Path; from rft.grading.loading.targets import import_file\n"
    program += "import_file(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", program, str(file)], timeout=100, check=True)


PACKAGES = {
    "fine/__init__.py": "",
    "fine/rewards/__init__.py": "from .scores import exact\n",
    "fine/rewards/scores.py": "from ..texts import clean\ndef exact(completion): return clean(completion) == 4\n",
    "fine/texts.py": "clean = int\n",
    "torn/__init__.py": "import no_such_module_at_all\n",
    "torn/scores.py": "from .texts import clean\n",
    "json/__init__.py": "",
    "json/scores.py": "from . import texts\n",
}


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Packages with graders in the working directory."""
    monkeypatch.chdir(tmp_path)
    for name, source in PACKAGES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.mark.usefixtures("packages")
def test_a_file_with_relative_imports_is_imported_as_part_of_its_package():
    grader = load_grader("g", {"use": "fine/rewards/scores.py:exact"})
    assert grader.call(completion="4")
    assert grader.call.func.__module__ == "fine.rewards.scores"


@pytest.mark.usefixtures("packages")
def test_a_package_that_cannot_be_imported_says_why():
    (found,) = grader_problems("g", {"use": "torn/scores.py:exact"})
    assert "No module named 'no_such_module_at_all'" in found
    assert found.endswith("(imported as torn.scores, for its relative imports)")
    (found,) = grader_problems("g", {"use": "json/scores.py:exact"})
    assert "json.scores" in found
