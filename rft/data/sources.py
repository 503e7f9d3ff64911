"""Sources of tasks: local files, files shipped with rft, and datasets on the Hugging Face hub."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from rft.data.files import SUFFIXES, Flaw, Row, data_error, is_task_file, read_file, refuse_file, root_cause
from rft.imports import missing_packages
from rft.waiting import waiting

EMBEDDED_FOLDERS = tuple(Path(__file__).parents[1] / "embedded" / name for name in ("tasks", "examples"))
"""Folders of the task files shipped with rft: `<family>/<split>.jsonl`, or `<example>/<split>.jsonl`."""

_HUB_ID = re.compile(r"(?P<dataset>[\w.-]+/[\w.-]+)(/(?P<config>[\w.-]+))?:(?P<split>\S+)")


def read_rows(source: str, *, key: str) -> Iterator[Row | Flaw]:
    """Read a source row by row.

    Args:
        source: A local file, `embedded:<family>/<split>`, or a hub dataset as `<owner>/<name>[/<config>]:<split>`.
        key: The configuration key that names the source, for messages, such as `data.train`.

    Raises:
        DataError: The source is unknown, missing or unreadable as a whole.
    """
    file = local_file(source, key=key)
    if file is not None:
        yield from read_file(file, name=source, key=key)
    elif match := _HUB_ID.fullmatch(source):
        yield from _read_from_hub(source, key=key, **match.groupdict())


def local_file(source: str, *, key: str) -> Path | None:
    """Return the file of a source without opening it; None for a hub dataset. Arguments like those of `read_rows`.

    Raises:
        DataError: The source is unknown, missing or not a task file.
    """
    path = Path(source).expanduser()
    if source.startswith("embedded:"):
        return _embedded_file(source, key=key)
    if is_task_file(path) or os.path.exists(path):  # Path.exists raises if a parent folder denies access
        refuse_file(path, name=source, key=key)
        return path
    if not _HUB_ID.fullmatch(source):
        raise data_error(
            f"{key}={source} is not a source of tasks, and {path.absolute()} does not exist; allowed: "
            f"a file ({', '.join(SUFFIXES)}), embedded:<family>/<split>, "
            "or a dataset on the Hugging Face hub as <owner>/<name>[/<config>]:<split>"
        )
    return None


def _embedded_file(source: str, *, key: str) -> Path:
    found = [file for folder in EMBEDDED_FOLDERS for file in folder.glob("*/*.jsonl")]
    files = {f"embedded:{file.parent.name}/{file.stem}": file for file in found}
    if source in files:
        return files[source]
    nearest = difflib.get_close_matches(source, files, n=1)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise data_error(f"{key}={source} is not shipped with rft; {hint}available: {', '.join(sorted(files)) or 'none'}")


def _read_from_hub(source: str, *, key: str, dataset: str, config: str | None, split: str) -> Iterator[Row]:
    if problem := missing_packages(f"{key}={source}: a data set on the Hugging Face hub", "datasets"):
        raise data_error(f"{problem}; or give a .jsonl, .csv or .tsv file")
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    try:
        with waiting(f"the dataset {dataset} from the Hugging Face hub"):
            rows = load_dataset(dataset, config, split=split)
    except Exception as error:  # network, hub, name, configuration and split raise different types
        tried = f"load_dataset({dataset!r}, {config!r}, split={split!r})"
        raise data_error(
            f"{key}={source} is not a local file, and the Hugging Face hub did not return it: {tried} failed: "
            f"{root_cause(error)}; check the name at https://huggingface.co/datasets/{dataset} and the network "
            f"(HF_HUB_OFFLINE=1 forbids it), or give a local file ({', '.join(SUFFIXES)})"
        ) from error
    for number, content in enumerate(rows, start=1):
        yield Row(f"{source} row {number}", content)
