"""The words of a text, for BM25 and hashed vectors."""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """Return the words of a text in order: runs of letters, digits and _, in Unicode's form NFKC, without case."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
