"""Shortens the results of tools."""

from __future__ import annotations

from typing import Any


def cut_middle(text: str, limit: int, tokenizer: Any) -> str:
    """Return a text of at most `limit` tokens, plus a marker in place of its middle.

    Args:
        text: The text.
        limit: Tokens to keep, the first half from the start and the rest from the end.
        tokenizer: Counts the tokens.
    """
    if len(text.encode(errors="replace")) <= limit:  # a token has at least one byte
        return text
    ids = tokenizer.encode(text, add_special_tokens=False)
    if len(ids) <= limit:
        return text
    head, tail = ids[: limit - limit // 2], ids[len(ids) - limit // 2 :]
    # Half a character at a cut has no text.
    first, last = (tokenizer.decode(part).strip("\ufffd") for part in (head, tail))
    return f"{first}\n[... {len(ids) - limit} tokens left out ...]\n{last}"
