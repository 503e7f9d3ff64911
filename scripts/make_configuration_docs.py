"""Write the reference in docs/configuration.md: every key with its type, default and meaning, from the schema.

The text around the reference is written by hand. After a change of a key, run
`python scripts/make_configuration_docs.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rft.config.catalog import SCHEMAS, command_of
from rft.config.reference import Part, reference

FILE = Path(__file__).parents[1] / "docs" / "configuration.md"
BEGIN = "<!-- Made by scripts/make_configuration_docs.py; the meanings are the docstrings of the schema. -->\n"
END = "<!-- End of what is made. -->\n"


def renewed(page: str) -> str:
    """Return the page with a new reference.

    Raises:
        ValueError: The page lacks one of the two marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{FILE} must hold the lines {BEGIN.strip()!r} and {END.strip()!r}")
    return "".join([before, begin, "\n", *_reference(), end, after])


def _reference() -> Iterator[str]:
    shared = set(reference("train"))
    for config_name in SCHEMAS:
        yield f"### {command_of(config_name)}\n\n"
        parts = [part for part in reference(config_name) if config_name == "train" or part not in shared]
        same = dict.fromkeys(
            part.section for part in reference(config_name) if config_name != "train" and part in shared
        )
        for part in parts:
            yield from _part(part)
        if same:
            yield f"As in `rft train`: {', '.join(f'`{section}`' for section in same)}.\n\n"
        if config_name == "sweep":
            yield "All other keys are those of `rft train`, and every trial receives them.\n\n"


def _part(part: Part) -> Iterator[str]:
    if part.kinds:
        *others, last = (f"`{part.section}={kind}`" for kind in part.kinds)
        yield f"Only of {', '.join(others)}{' and ' if others else ''}{last}:\n\n"
    elif part.section:
        yield f"**`{part.section}`**{': ' if part.meaning else ''}{part.meaning}\n\n"
    for kind, meaning in part.choices:
        yield f"- `{part.section}={kind}`: {meaning}\n"
    yield "\n" if part.choices else ""
    yield "| key | type | default | meaning |\n|---|---|---|---|\n"
    for key in part.keys:
        default = "required" if key.default is None else f"`{key.default}`"
        cells = (f"`{key.name}`", f"`{key.type}`", default, key.meaning)
        row = " | ".join(cell.replace("|", r"\|") for cell in cells)
        yield f"| {row} |\n"
    yield "\n"


if __name__ == "__main__":
    FILE.write_text(renewed(FILE.read_text(encoding="utf-8")), encoding="utf-8")
