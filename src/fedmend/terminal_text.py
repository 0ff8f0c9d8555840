"""Text that came from files or data, made safe to print and to write."""

from __future__ import annotations

import json


def printable(text: str) -> str:
    """The text in one line that can't move a terminal's cursor or reorder what is shown beside it.

    Control characters, line breaks, marks of text direction and other invisible characters, and lone surrogates become
    JSON's escapes, such as ``\\u001b``; so JSON keeps its meaning. Everything else stays as it is. The result can be
    encoded as UTF-8.
    """
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)
