"""What a repair is, its input, and the candidate that the gate judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from torch import Tensor, nn

from fedmend.detection import Finding, Target
from fedmend.errors import ConfigError
from fedmend.federation.client_fit import Fit, fit_one_by_one
from fedmend.federation.clients import Client
from fedmend.federation.rounds import Server
from fedmend.local_training import LocalTraining
from fedmend.progress import Progress, silent
from fedmend.repairs.accuracy_sources import ValidationSet
from fedmend.repairs.repair_report import Details, TargetCheck

TriggerUse: TypeAlias = Literal["all", "one", "none"]


@dataclass(frozen=True, eq=False)
class Participants:
    """What a server may use of its federation: clients to ask, and rounds to run.

    Attributes:
        image_shape: (C, H, W) of the clients' images.
        clients: all of them, numbered from 0 in their order; any may be Byzantine.
        choose: from a round's number to the clients that take part.
        last_round: the number of the suspect's round.
        training: honest clients' training in a plain round.
        server: aggregates a plain round.
        seed: of what the repair draws, the clients' training among it; that of a run is the default of
            ``participants_of``.
        fit: trains the clients of a round: one by one, or in workers (see
            ``fedmend.federation.workers.client_workers``).
        validation: the server's own images that choose how far to prune, the groups and the round; None: clients
            report accuracies. What judges the outcome is apart from them.
    """

    image_shape: tuple[int, int, int]
    clients: Sequence[Client]
    choose: Callable[[int], Sequence[Client]]
    last_round: int
    training: LocalTraining
    server: Server
    seed: int = 0
    fit: Fit = fit_one_by_one
    validation: ValidationSet | None = None


@dataclass(frozen=True, eq=False)
class Context:
    """What a repair may use besides the suspect and the findings.

    Attributes:
        reference: a clean model of the same task, on the suspect's device.
        images, labels: the server's own clean images, uint8 or float in [0, 1], (N, C, H, W), and their true classes,
            int64 (N,).
        participants: the federation, for repairs that need its clients.
        attempt: the number of this attempt, from 1.
        seed: of all randomness outside the federation.
        progress: called as ``progress(stage, done, total)``.
    """

    reference: nn.Module | None = None
    images: Tensor | None = None
    labels: Tensor | None = None
    participants: Participants | None = None
    attempt: int = 1
    seed: int = 0
    progress: Progress = silent

    @property
    def labelled_images(self) -> tuple[Tensor, Tensor] | None:
        """Images and labels, or None."""
        return None if self.images is None or self.labels is None else (self.images, self.labels)


def require_participants(context: Context) -> Participants:
    """The federation.

    Raises:
        ConfigError: the context has none.
    """
    if context.participants is None:
        raise ConfigError("a repair by votes needs the federation's clients; context.participants is None")
    return context.participants


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model that the gate has yet to judge.

    Attributes:
        model: a new model, on the suspect's device.
        summary: what was done, without a full stop, such as "9 of 16 channels were pruned".
        details: the same, for programs.
        targets: triggers that the repair found itself; the gate checks that they no longer work.
        reported: clean accuracy of the suspect and of the model as clients report it, if the server has no images.
        reported_checks: likewise, whether the triggers that the repair found still work.
        stages: the suspect and the model after each stage, for research; a defence doesn't need them.
        warnings: reasons not to trust the outcome.
    """

    model: nn.Module
    summary: str
    details: Details
    targets: tuple[Target, ...] = ()
    reported: tuple[float, float] | None = None
    reported_checks: tuple[TargetCheck, ...] = ()
    stages: dict[str, nn.Module] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Repair(Protocol):
    """A method that removes a backdoor: a settings class whose fields are its settings.

    Its candidate is released only if it passes the gate (see ``fedmend.repairs.gate``). A class attribute
    ``trigger_use`` says what it uses of the findings:

    - "all", the default: every trigger, so another pass is worthwhile when a new scan finds more.
    - "one": the triggers that the first finding names, so it needs one, and another pass would be the same.
    - "none": no trigger, so it also repairs where a scan was inconclusive or recovered none.
    """

    def __call__(self, suspect: nn.Module, findings: Sequence[Finding], context: Context) -> Candidate:
        """Repair a copy of the suspect.

        Args:
            suspect: a copy of the caller's.
            findings: what detectors said about it, none of them clean; may be empty where the method needs none.
            context: images, models and clients to repair with.

        Raises:
            ConfigError: the context lacks what the method needs.
        """
        ...


def trigger_use(method: Repair) -> TriggerUse:
    """What a repair uses of the findings; see :class:`Repair`."""
    use: TriggerUse = getattr(method, "trigger_use", "all")
    return use
