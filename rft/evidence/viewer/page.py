"""Puts the page together: a template, its style and script, and the data of the runs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("page")
SCRIPTS = ("core.js", "source.js", "overview.js", "charts.js", "detail.js", "browser.js", "start.js")
"""The parts of the script, in order."""
_PLACE = re.compile(r"/\*(POLICY|STYLE|DATA|SCRIPT)\*/")


def policy(*, is_served: bool) -> str:
    """Return the content security policy of the page: only its own style and script, and nothing from elsewhere.

    Args:
        is_served: Whether the page may ask the server that sent it.
    """
    connect = "; connect-src 'self'" if is_served else ""
    return (
        f"default-src 'none'; style-src '{_sha256(_style())}'; script-src '{_sha256(_script())}'{connect}; "
        "base-uri 'none'; form-action 'none'"
    )


def viewer_page(data: Mapping[str, Any]) -> str:
    """Return the HTML file.

    Args:
        data: `mode` (`file` or `serve`), `runs`, and what belongs to the mode.
    """
    # A completion may hold `</script>` or `<!--`, which would end the data.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    content = {
        "POLICY": policy(is_served=data["mode"] == "serve"),
        "STYLE": _style(),
        "DATA": text.encode("utf-8", "backslashreplace").decode(),  # half a surrogate pair is no UTF-8
        "SCRIPT": _script(),
    }
    template = (PAGE / "viewer.html").read_text(encoding="utf-8")
    return _PLACE.sub(lambda place: content[place[1]], template)


def packed(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the data of a file, in which equal prompts are held once.

    Args:
        runs: Overviews with `rollouts` (see `rollout_json.whole`).
    """
    shared: dict[str, int] = {}
    smaller = []
    for run in runs:
        rollouts = []
        for rollout in run["rollouts"]:
            asked = json.dumps([rollout["messages"], rollout["item"]])
            number = shared.setdefault(asked, len(shared))
            left_out = ("messages", "item", "preview")
            rollouts.append({**{key: rollout[key] for key in rollout if key not in left_out}, "shared": number})
        smaller.append({**run, "rollouts": rollouts, "num_shown": len(rollouts)})
    return {"mode": "file", "runs": smaller, "shared": [json.loads(asked) for asked in shared]}


def _style() -> str:
    return (PAGE / "viewer.css").read_text(encoding="utf-8")


def _script() -> str:
    return "\n".join((PAGE / name).read_text(encoding="utf-8") for name in SCRIPTS)


def _sha256(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
