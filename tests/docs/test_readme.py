"""What the README promises a stranger: short, and output within the first lines."""

from __future__ import annotations

import re
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
WITHOUT_CODE = re.sub(r"```.*?```|<!--.*?-->", "", README, flags=re.DOTALL)


def test_at_most_700_words() -> None:
    assert len(WITHOUT_CODE.split()) <= 700


def test_a_command_and_its_output_are_within_the_first_30_lines() -> None:
    top = "\n".join(README.splitlines()[:30])
    assert re.search(r"```console\n\$ fedmend .*?\n.*?```", top, re.DOTALL)


def test_links_lead_somewhere() -> None:
    folder = Path(__file__).parents[2]
    targets = re.findall(r"\]\(([^)#]+)\)", WITHOUT_CODE)
    assert targets
    ours = [target for target in targets if not target.startswith("https://")]
    assert [target for target in ours if not (folder / target).exists()] == []
