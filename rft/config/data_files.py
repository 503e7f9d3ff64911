"""The settings of `rft data check`, `clean`, `split` and `stats`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rft.config.fields import Positive, Section, Share, Whole
from rft.types import Split


class DataFilesConfig(Section):
    """Task files or demonstrations to look at: `rft data stats`."""

    train: str | None = None
    """Rows to train on: a `.jsonl`, `.csv`, `.tsv` or `.parquet` file, or another source as in `data.train`."""
    validation: str | None = None
    """Rows measured during a run."""
    test: str | None = None
    """Rows measured before and after a run."""
    columns: dict[str, str] = {}
    """Names of columns in the files, by rft's name for them: `{prompt: question, answer: label}`."""
    model: str | None = None
    """Base model whose tokenizer counts the tokens of prompts and answers; null counts words."""
    max_context_tokens: Positive | None = None
    """Longest row in tokens; null takes the model's limit. Needs `model`."""

    def sources(self) -> dict[Split, str]:
        """Return the given sources by split."""
        given = {Split.TRAIN: self.train, Split.VALIDATION: self.validation, Split.TEST: self.test}
        return {split: source for split, source in given.items() if source is not None}


class DataCheckConfig(DataFilesConfig):
    """Task files or demonstrations to check: `rft data check`."""

    group_by: str | None = None
    """Column whose values must not be in two splits, such as the customer."""
    pii: Literal["report", "refuse"] = "report"
    """Whether personal data is a warning or an error."""
    report: str | None = None
    """A `.json` file for all findings with all of their places; it must not exist."""


class DataCleanConfig(DataFilesConfig):
    """Task files or demonstrations to clean: `rft data clean`."""

    out: str
    """Folder for the cleaned files, the rows left out, and a card; it must not exist."""
    group_by: str | None = None
    """Column whose values must not be in two splits, such as the customer."""
    pii: Literal["mask", "drop", "keep"] = "mask"
    """Treatment of personal data: replace it by its kind, leave out the row (and mask it in `dropped.jsonl`), or keep
    it."""
    licence: str | None = None
    """Licence of the data, for the card."""


class DataSplitConfig(Section):
    """A file to split into training, validation and test rows: `rft data split`."""

    data: str
    """The rows, as in `data.train`."""
    out: str
    """Folder for `train.jsonl`, `validation.jsonl`, `test.jsonl` and a card; it must not exist."""
    test_share: Annotated[Share, Field(gt=0)] = 0.1
    """Share of the prompts for the test."""
    validation_share: Share = 0.0
    """Share of the prompts for validation."""
    columns: dict[str, str] = {}
    """Names of columns in the file, by rft's name for them: `{prompt: question}`."""
    group_by: str | None = None
    """Column whose values stay together, such as the customer. Rows that look alike stay together in any case."""
    seed: Whole = 0
    """Selects the rows of each split."""
    licence: str | None = None
    """Licence of the data, for the card."""
