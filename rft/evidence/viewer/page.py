"""Writes the viewer: a template with the data of the runs inside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PLACE = "/*DATA*/"
"""What the data replaces in the template."""


def viewer_page(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the HTML file.

    Args:
        runs: Results of `collect_run`.
    """
    template = Path(__file__).with_name("viewer.html").read_text(encoding="utf-8")
    # A completion may hold `</script>` or `<!--`, which would end the data.
    data = json.dumps(list(runs), ensure_ascii=False).replace("<", "\\u003c").replace("\u2028", "\\u2028")
    before, after = template.split(PLACE)
    return f"{before}{data}{after}"
