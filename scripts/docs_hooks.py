"""Hooks of the documentation's build: what Sphinx roles in docstrings name is shown as code."""

from __future__ import annotations

import re
from typing import Any

_ROLE = re.compile(r":(?:class|func|meth|data|mod|attr|exc|obj):<code>~?([^<]*)</code>")


def on_page_content(html: str, **_: Any) -> str:
    """Turn ``:class:`a.b.C` `` into the name's last part, as code."""
    return _ROLE.sub(lambda match: f"<code>{match[1].rpartition('.')[2]}</code>", html)
