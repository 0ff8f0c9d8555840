"""The guard: from a round's candidate to a decision, rule by rule."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from fedmend.checked_settings import Natural, require
from fedmend.checkpoints import load_checkpoint
from fedmend.errors import ConfigError, ModelError, OutputError
from fedmend.guard.decisions import Decision, Line
from fedmend.guard.evidence_table import evidence, is_about
from fedmend.guard.history import History
from fedmend.guard.ledger import Accepted, Ledger
from fedmend.guard.own_images import OwnImages
from fedmend.guard.policy import GuardPolicy
from fedmend.guard.rules import finite_logits, ruled
from fedmend.guard.rulings import Round, Ruling
from fedmend.guard.signatures import Signer
from fedmend.guard.weights import Fault, State, digest, model_with, received, require_tensors
from fedmend.progress import Progress, silent
from fedmend.seeds import derive_seed, unpredictable_seed
from fedmend.version_info import versions

_TURNS = threading.Lock()
"""Reviews in one process, and first looks at a model, take turns: what else changes the global random generators
meanwhile would be taken for the model's doing."""


@dataclass(eq=False)
class Guard:
    """Decides each round of a federation: accept the candidate, repair it, or roll back.

    It keeps nothing in memory but the model and the images: what it has accepted is in the history on disk, which each
    review verifies as far as it reads it. So a guard that is made again after a crash decides as if nothing had
    happened. Reviews in one process take turns; a guard of another process on the same history is refused.

    Attributes:
        policy: the rules.
        model: the federation's model, or what makes it; only its architecture counts. Its device is where scans run.
        images: the operator's own clean images (N, C, H, W), uint8 or float in [0, 1], which no client has trained on.
        labels: their classes, int64 (N,).
        history: the folder of the history; made if needed.
        seed: of the scans; None: drawn anew for a new history, since a model can be trained to withstand the search of
            a known seed. The history remembers it.
        trusted: a model that the operator vouches for, as the first reference, such as a pre-trained one.
        class_names: one per class, for reports.
        signing_key: a PEM file with a private key, to sign the history with (see :mod:`fedmend.guard.signatures`).
        progress: see ``fedmend.progress``.

    Raises:
        ConfigError: the history was begun with another seed or another trusted model, or the policy chooses fewer
            images than a scan or its repair needs.
        DataError: the images, labels or class names can't be used, or the history is not as the guard wrote it; it
            names the file.
        ModelError: the model fails on the images, or can't be scanned; the trusted model isn't finite, or of another
            architecture.
        OutputError: the history can't be written, or another guard uses it.
    """

    policy: GuardPolicy
    _: KW_ONLY
    model: nn.Module | Callable[[], nn.Module]
    images: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    history: Path | str
    seed: int | None = None
    trusted: nn.Module | State | None = field(default=None, repr=False)
    class_names: tuple[str, ...] | None = None
    signing_key: Path | str | None = None
    progress: Progress = field(default=silent, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.policy, GuardPolicy):
            raise ConfigError(f"a guard needs a GuardPolicy; got a {type(self.policy).__name__}")
        if self.seed is not None:
            require(self.seed, Natural, "a guard's seed")
        made = self.model if isinstance(self.model, nn.Module) else self.model()
        self._template = deepcopy(made).eval()
        require_tensors(self._template)
        with _TURNS:
            self._images = OwnImages.checked(self._template, self.images, self.labels, self.class_names)
        self._images.check_size(self.policy.images_per_class, self.policy.made_repair() is not None)
        self._history = History(Path(self.history))
        self._signer = None if self.signing_key is None else Signer(Path(self.signing_key))
        with self._history.locked():
            self._open()

    def review(self, candidate: nn.Module | State, round: int) -> Decision:
        """Decide about the new global model of a round, and write the decision to the history.

        The same candidate again, as after a crash between the decision and its use, gets the same decision.

        Args:
            candidate: the model or its whole ``state_dict``; left as it is.
            round: its number, not below the last one's.

        Raises:
            ConfigError: the round's number is below that of the last decision.
            DataError: the history is not as the guard wrote it; it names the file.
            OutputError: the decision can't be written, or another guard uses the history.
        """
        require(round, Natural, "a round's number")
        with _TURNS, self._history.locked():
            ledger, last = self._read()
            weights = received(candidate, self._template)
            if last is not None and last.round == round and is_about(last, weights):
                return self._decision(last, ledger, weights)
            if ledger.last_round is not None and round < ledger.last_round:
                raise ConfigError(
                    f"expected a round from {ledger.last_round} on, where the history {self._history.path} ends; got "
                    f"{round}. Number the rounds on from there, or choose another folder"
                )
            started = time.perf_counter()
            outcome = self._outcome(weights, round, ledger)
            line = self._line(
                outcome, ledger, (round, None if isinstance(weights, Fault) else digest(weights))
            )
            line = replace(line, seconds=time.perf_counter() - started)
            return self._decision(line, self._append(line, ledger), weights)

    @property
    def last_accepted(self) -> Accepted | None:
        """What the history says of the newest accepted model; None if there is none."""
        return self._history.read()[0].last

    @property
    def last_round(self) -> int | None:
        """The round of the last decision; None before the first."""
        return self._history.read()[0].last_round

    def released(self) -> dict[str, Tensor] | None:
        """The newest accepted model's weights, on the CPU; None if there is none.

        Raises:
            DataError: the history is not as the guard wrote it; it names the file.
        """
        last = self.last_accepted
        return None if last is None else self._history.load(last)

    def _open(self) -> None:
        if not self._history.exists():
            self._history.begin(unpredictable_seed() if self.seed is None else self.seed)
        self._history.check()
        ledger, _ = self._read()
        if self.seed not in (None, ledger.seed):
            raise ConfigError(
                f"the history {self._history.path} has the seed {ledger.seed}; got {self.seed}: leave it out, or "
                "choose another folder"
            )
        trusted = self._given()
        if trusted is not None:
            self._trust(trusted, ledger)

    def _read(self) -> tuple[Ledger, Line | None]:
        """The history's ledger and last line, after what a killed process began was finished."""
        ledger, last = self._history.read()
        prepared = self._signer is not None and self._signer.require(self._history, ledger)
        self._history.recover(ledger)
        if self._signer is not None and prepared:
            self._signer.confirm(self._history)
        return ledger, last

    def _append(self, line: Line, ledger: Ledger) -> Ledger:
        sign = None if self._signer is None else partial(self._signer.prepare, self._history)
        after = self._history.append(line, ledger, sign)
        with suppress(OutputError):  # the line is written, so the decision stands; _read() does what is left
            self._history.finish(after)
            if self._signer is not None:
                self._signer.confirm(self._history)
        return after

    def _given(self) -> nn.Module | State | None:
        """The model that the operator vouches for, as an argument or as a file that the policy names."""
        policy = self.policy
        if self.trusted is not None and (policy.trusted or policy.warm_up or policy.first_detectors):
            raise ConfigError(
                "a trusted model and [guard] trusted, warm_up or first_detectors are several beginnings; choose one"
            )
        if policy.trusted is None:
            return self.trusted
        model = deepcopy(self._template)
        load_checkpoint(policy.trusted, model)
        return model

    def _trust(self, trusted: nn.Module | State, ledger: Ledger) -> None:
        """Begin the history with a model of the operator's, unless it was begun with it before."""
        weights = received(trusted, self._template)
        if isinstance(weights, Fault):
            raise ModelError(f"the trusted model can't be used: {weights.reason}")
        model, name = model_with(weights, self._template), digest(weights)
        if ledger.given == name:
            return
        if ledger.models:
            raise ConfigError(
                f"the history {self._history.path} began with another model than the trusted one; leave it out, or "
                "choose another folder"
            )
        if not finite_logits(model, self._images):
            raise ModelError("the trusted model returns NaN or infinite logits on the guard's images")
        accuracy = self._images.accuracy(model)
        outcome = Ruling("accept", "trusted", "The operator vouches for it.", weights, accuracy, accuracy)
        self._append(self._line(outcome, ledger, (None, name)), ledger)

    def _outcome(self, weights: State | Fault, number: int, ledger: Ledger) -> Ruling:
        if isinstance(weights, Fault):
            return Ruling("rollback", weights.verdict, weights.reason)
        seed = derive_seed(ledger.seed, "review", number)
        return ruled(
            Round(
                number,
                weights,
                self.policy,
                self._images,
                self._history,
                ledger,
                self._template,
                seed,
                self.progress,
            )
        )

    def _line(self, outcome: Ruling, ledger: Ledger, named: tuple[int | None, str | None]) -> Line:
        """The line that records an outcome; the file of an accepted model is written now.

        Args:
            outcome: what the rules said.
            ledger: before the decision.
            named: the round's number, and the candidate's digest.
        """
        number, given = named
        stored = None
        if outcome.accepted is not None:
            stored = self._history.save_model(outcome.accepted, number, ledger.next_number)
        rejections = ledger.rejections + 1 if outcome.action == "rollback" else 0
        return Line(
            round=number,
            action=outcome.action,
            verdict=outcome.verdict,
            reason=outcome.reason,
            stop=self.policy.stop_after is not None and rejections >= self.policy.stop_after,
            evidence=evidence(outcome, ledger, given, stored),
            policy=self.policy.to_dict(),
            seed=ledger.seed,
            versions=versions(),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=0.0,
            previous=ledger.head,
            stored=stored,
            withdrawn=outcome.withdrawn,
        )

    def _decision(self, line: Line, ledger: Ledger, weights: State | Fault) -> Decision:
        """What a line says, with the weights that go with it; ``ledger`` is that after the line."""
        candidate = None if isinstance(weights, Fault) else weights
        released = candidate
        if line.action != "accept":
            released = None if ledger.last is None else self._history.load(ledger.last)
        assert line.round is not None
        return Decision(
            round=line.round,
            action=line.action,
            released=released,
            verdict=line.verdict,
            reason=line.reason,
            stop=line.stop,
            evidence=line.evidence,
            continue_from=candidate if line.action == "hold" else released,
        )
