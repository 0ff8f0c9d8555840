"""The page's view of a simulation's attacks; the templates mark all of it as unknown to the defender."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedmend.detection.base import Finding
from fedmend.evaluation import mask_iou
from fedmend.pages import pictures, words
from fedmend.pages.contents import PlantedAttack
from fedmend.triggers import Patch


@dataclass(frozen=True)
class AttackView:
    """One attack in words and pictures.

    Attributes:
        example: a clean and a stamped image.
        overlap: the planted mask's intersection over union with the recovered one nearest to it, in [0, 1].
    """

    name: str
    trigger: str
    goal: str
    first_round: str
    attackers: str
    settings: list[tuple[str, str]]
    patch: pictures.TriggerPictures | None
    example: tuple[str, str] | None
    overlap: float | None

    @property
    def pictured(self) -> bool:
        """Whether there is anything to see."""
        return self.patch is not None or self.example is not None


def attack_views(
    attacks: Sequence[PlantedAttack], names: Sequence[str], findings: Sequence[Finding] = ()
) -> list[AttackView]:
    """The attacks in order. Classes without a name are shown by number.

    Args:
        attacks: what was planted.
        names: of the classes.
        findings: the planted patches are compared with those recovered in these.
    """
    triggers = [target.trigger for finding in findings for target in finding.targets]
    recovered = [trigger for trigger in triggers if isinstance(trigger, Patch)]
    return [
        AttackView(
            name="Attack" if len(attacks) == 1 else f"Attack {index}",
            trigger=_kind(_table(attack, "trigger")),
            goal=_goal(_table(attack, "goal"), names),
            first_round=words.plain_text(attack.settings.get("first_round")),
            attackers=words.plain_text(attack.settings.get("attackers")),
            settings=list(words.flatten(attack.settings)),
            patch=pictures.trigger_pictures(attack.patch) if attack.patch else None,
            example=(pictures.photo(attack.example[0]), pictures.photo(attack.example[1]))
            if attack.example
            else None,
            overlap=_overlap(attack.patch, recovered),
        )
        for index, attack in enumerate(attacks, start=1)
    ]


def _overlap(planted: Patch | None, recovered: Sequence[Patch]) -> float | None:
    """The largest IoU; None without a planted patch or a recovered one of its shape."""
    if planted is None:
        return None
    alike = [patch for patch in recovered if patch.mask.shape == planted.mask.shape]
    return max((mask_iou(planted.mask, patch.mask) for patch in alike), default=None)


def _goal(goal: Mapping[str, Any], names: Sequence[str]) -> str:
    """A goal in class names if it has the usual settings, otherwise its settings."""
    kind, source, target = goal.get("kind"), goal.get("source"), goal.get("target")
    pairs = goal.get("pairs", [[source, target]])
    if not isinstance(pairs, list | tuple) or not all(map(_is_pair, pairs)):
        return _kind(goal)
    described = [
        f"{words.class_list(() if start is None else (start,), names)} → {words.class_name(end, names)}"
        for start, end in pairs
    ]
    return f"{words.plain_text(kind)}: {', '.join(described)}"


def _is_pair(pair: Any) -> bool:
    """Whether ``pair`` is a source class, or None for all others, and a target class."""
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return False
    return isinstance(pair[0], int | None) and isinstance(pair[1], int)


def _table(attack: PlantedAttack, name: str) -> Mapping[str, Any]:
    table = attack.settings.get(name)
    return table if isinstance(table, Mapping) else {} if table is None else {"kind": table}


def _kind(table: Mapping[str, Any]) -> str:
    """A table's kind and other settings, as text."""
    rest = {key: value for key, value in table.items() if key != "kind"}
    described = words.plain_text(rest) if rest else ""
    return (
        ": ".join(part for part in (words.plain_text(table.get("kind", "")), described) if part)
        or words.MISSING
    )
