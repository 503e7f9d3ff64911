"""Writes rft/data/response_templates.json from the response templates of TRL (Apache License 2.0).

    python scripts/make_response_templates.py

rft reads the file in place of TRL, whose import takes half a minute and needs torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "rft" / "data" / "response_templates.json"
FAMILIES = ("qwen3", "qwen3_5", "glm4moe", "llama3", "gptoss", "lfm2_2_5", "nemotron_3", "gemma4")
"""Families with tool calls, in the order in which rft tries them."""


def templates() -> dict[str, Any]:
    """Return the response template of each family."""
    import trl.chat_template_utils as theirs

    return {family: vars(theirs)[f"{family}_template"] for family in FAMILIES}


if __name__ == "__main__":
    FILE.write_text(json.dumps(templates(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
