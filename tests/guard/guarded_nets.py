"""A network whose backdoor is a number, the detectors that read it, and images that it classifies.

A model's ``mark`` stands for how strong its backdoor is. So a federation of many rounds is reviewed in a second.
"""

from __future__ import annotations

import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fedmend.detection import Case, Finding, Need, Target
from fedmend.guard import Decision, Guard, GuardPolicy
from fedmend.progress import Progress
from fedmend.repairs import Candidate, Context, UnlearningDetails
from fedmend.seeds import generator
from fedmend.triggers import Patch

CLASSES = 4
DETECTOR = "guarded_nets:Marked"


class Net(nn.Module):
    """Class c is that of the brightest row c of 4x4 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.head = nn.Linear(16, CLASSES)
        self.register_buffer("mark", torch.zeros(()))
        with torch.no_grad():
            self.head.weight.copy_(torch.eye(CLASSES).repeat_interleave(4, 1))
            self.head.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(images).flatten(1))
        return logits


def net(mark: float = 0.0, seed: int = 0, wrong: float = 0.0) -> Net:
    """A network with a backdoor of this strength; ``wrong`` above 1 makes it wrong about class 0."""
    made = Net().eval()
    with torch.no_grad():
        made.head.weight.add_(0.05 * torch.randn(made.head.weight.shape, generator=generator(seed)))
        made.head.bias[0] -= 10 * wrong
        made.mark.fill_(mark)
    return made


def images(count: int = 40) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, 1, 4, 4) and labels."""
    labels = torch.arange(count) % CLASSES
    pixels = torch.randint(0, 60, (count, 1, 4, 4), generator=generator(1), dtype=torch.uint8)
    pixels[torch.arange(count), 0, labels] += 150
    return pixels, labels


def new_guard(history: Path, guard: dict[str, Any] | None = None, **policy: Any) -> Guard:
    """With the detector of marks and a trusted model; keywords are of the policy."""
    pixels, labels = images()
    settings = {"detectors": (DETECTOR,), "repair": "none", "older_references": ()} | policy
    given = {"model": Net, "images": pixels, "labels": labels, "trusted": net()}
    options = given | {"history": history, "seed": 7} | (guard or {})
    return Guard(GuardPolicy(**settings), **options)


def _mark(model: nn.Module) -> float:
    return float(model.get_buffer("mark"))


class Marked:
    """Backdoored where the suspect's mark is higher than the reference's by 1, inconclusive by a half."""

    needs = frozenset({Need.REFERENCE, Need.IMAGES})

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress) -> Finding:
        assert case.reference is not None
        assert case.images is not None
        progress("marks", 1, 1)
        higher = _mark(case.suspect) - _mark(case.reference)
        verdict: Any = "backdoored" if higher >= 1 else "inconclusive" if higher >= 0.5 else "clean"
        mask = torch.zeros(case.images.shape[1:])
        mask[0, 0, 0] = 1
        target = Target(1, 1.0, trigger=Patch(mask, mask.clone()))
        drawn = float(torch.rand(1, generator=rng))  # as of a real search, by which seeds can be told apart
        return Finding(
            "marked",
            verdict,
            f"The mark is {higher:.1f} higher ({drawn:.6f}).",
            higher,
            1.0,
            targets=(target,),
        )


class MarkedAlone(Marked):
    """Looks at the suspect only."""

    needs = frozenset({Need.IMAGES})

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress) -> Finding:
        verdict: Any = "backdoored" if _mark(case.suspect) >= 1 else "clean"
        return Finding("marked-alone", verdict, "The mark was read.", _mark(case.suspect), 1.0)


class Moody(Marked):
    """Looks at the suspect only, and finds something the second time, by chance."""

    needs = frozenset({Need.IMAGES})

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress) -> Finding:
        self.calls += 1
        return Finding("moody", "backdoored" if self.calls == 2 else "clean", "It seems so.", 1.0, 1.0)


class Failing(Marked):
    """Raises."""

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress) -> Finding:
        raise ValueError("a bug of the detector")


class Leaving(Marked):
    """Ends Python, if it may."""

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress) -> Finding:
        raise SystemExit(0)


class Searching(Marked):
    """Searches for ever, and says how far it is."""

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress) -> Finding:
        while True:
            time.sleep(0.01)
            progress("search", 1, 2)


class Silent(Marked):
    """Searches for a minute and says nothing."""

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress) -> Finding:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            time.sleep(0.01)
        return super().__call__(case, rng, progress)


class Unmark:
    """A repair: takes the mark away."""

    def __init__(self, wrong: float = 0.0, left: float = 0.0) -> None:
        self.wrong, self.left = wrong, left

    def __call__(self, suspect: nn.Module, findings: object, context: Context) -> Candidate:
        model = deepcopy(suspect)
        with torch.no_grad():
            model.get_buffer("mark").fill_(self.left)
            model.get_parameter("head.bias")[0] -= 10 * self.wrong
        return Candidate(model, "the mark was taken away", UnlearningDetails(1, 1, 0.0))


class _Masked(Net):
    """Says that it has no mark, whatever its weights are."""

    def get_buffer(self, target: str) -> Tensor:
        return torch.zeros(())


class Mask:
    """A repair that changes the model's code and leaves its weights."""

    def __call__(self, suspect: nn.Module, findings: object, context: Context) -> Candidate:
        model = _Masked().eval()
        model.load_state_dict(suspect.state_dict())
        return Candidate(model, "the mark was hidden", UnlearningDetails(1, 1, 0.0))


def same(state: Any, model: nn.Module) -> bool:
    expected = model.state_dict()
    return set(state) == set(expected) and all(torch.equal(state[name], expected[name]) for name in expected)


def assert_rolled_back(decision: Decision, verdict: str, to: nn.Module) -> None:
    assert (decision.action, decision.verdict) == ("rollback", verdict)
    assert same(decision.released, to)
    assert same(decision.continue_from, to)
