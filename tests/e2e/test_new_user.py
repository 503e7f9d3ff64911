"""A new user's path in one script: nothing in it needs a remedy."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.full]  # four minutes beside other tests; other files test its steps

HERE = Path(__file__).parent
DEADLINE_S = 1800


def test_from_the_clone_to_plain_vllm(tmp_path: Path) -> None:
    script = subprocess.run(
        [HERE / "new_user.sh", HERE.parents[1], sys.prefix],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    print(script.stdout)
    assert script.returncode == 0
    assert re.search(r"^vLLM says: (<think>.*</think>)?-?\d+$", script.stdout, re.MULTILINE)
    assert "Traceback" not in script.stdout
