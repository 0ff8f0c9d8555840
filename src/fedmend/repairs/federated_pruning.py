"""Repair of a simulated run by its clients' votes (federated-pruning paper, 4): ask, prune, fine-tune, adjust."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fedmend.aggregation import aggregator_from_table
from fedmend.checkpoints import load_checkpoint
from fedmend.data import ImageSet, load_images
from fedmend.errors import ConfigError
from fedmend.federation import Client, Federation, RunFolder, Server, load_federation, run_round
from fedmend.federation.distillation import Distillation
from fedmend.federation.simulator import initial_model, laid_out
from fedmend.progress import Progress, silent
from fedmend.pruning import AccuracyVote, MajorityVote, RankingVote, Zeros, bits, locate, ranks
from fedmend.repairs.selection_rounds import Distilling, guarded_round, resistance
from fedmend.repairs.trigger_pool import TriggerPool
from fedmend.repairs.vote_pruning import PAPER, FineTune, PruneReport, Pruning, Watch, prune, unwatched
from fedmend.seeds import derive_seed


@dataclass(frozen=True)
class FederatedPruning:
    """Which votes are held on a run, and what follows.

    Attributes:
        vote: "ranking" (4.1) or "majority" (4.2). rates: the majority vote's pruning rates, shares in (0, 1), all in
            one ballot.
        pruning: from votes to a pruned model. Extreme weights are left as they are: after this fine-tuning, setting
            them to zero cost accuracy, and took next to nothing off the attack, on the models it was developed on.
        fine_tuning_rounds: rounds of the federation after the pruning, the attacker still taking part (4.4).
        distillation: how honest clients fine-tune against the triggers that clients found, in rounds that an attacker
            can't carry (see ``guarded_rounds``); with validation images the round is kept whose model resists best.
            None, the paper's: as in any round before.
        timeout: seconds that a client may take for an answer; one that took longer doesn't count.

    Raises:
        ConfigError: a setting is out of range.
    """

    vote: Literal["ranking", "majority"] = "ranking"
    rates: tuple[float, ...] = (0.3, 0.5, 0.7)
    pruning: Pruning = Pruning(delta=None)  # noqa: RUF009 - frozen
    fine_tuning_rounds: int = 6
    distillation: Distillation | None = Distillation()  # noqa: RUF009 - frozen
    timeout: float = 600.0

    def __post_init__(self) -> None:
        in_range = bool(self.rates) and all(0 < rate < 1 for rate in self.rates)
        if self.vote not in ("ranking", "majority") or not in_range:
            raise ConfigError(f'vote must be "ranking" or "majority" and rates in (0, 1); got {self}')
        if self.fine_tuning_rounds < 0 or not self.timeout > 0:
            raise ConfigError(f"fine_tuning_rounds must be 0 or more and timeout above 0; got {self}")

    def __call__(
        self,
        run: RunFolder,
        *,
        validation: ImageSet | None = None,
        liars: int | None = None,
        max_accuracy_drop: float = 0.05,
        data: ImageSet | None = None,
        device: torch.device | str = "cpu",
        progress: Progress = silent,
        watch: Watch = unwatched,
    ) -> tuple[nn.Module, PruneReport]:
        """Repair the last model of a run.

        Args:
            run: of ``fedmend simulate``. Its clients vote, and train on.
            validation: the server's own images; without them the clients report their accuracies.
            liars: how many clients, from the first on, lie; by default as many as ``[attack] liars`` says.
            max_accuracy_drop: see :func:`fedmend.repairs.vote_pruning.prune`.
            data: the training images, if they are in memory already.
            progress: called for each client that is asked and each round.
            watch: see :func:`fedmend.repairs.vote_pruning.prune`; also called after each round of fine-tuning.

        Returns:
            The repaired model and the report.

        Raises:
            FedmendError: the run is damaged, or no client's answer counts.
        """
        config = run.config()
        images = data if data is not None else load_images(config.data.source, "train")
        model = laid_out(last_model(run, images), images, device)
        federation = load_federation(run, images, device, liars)
        asked = federation.clients
        if liars is not None and not 0 <= liars <= (len(asked) if federation.attacks else 0):
            raise ConfigError(
                f"liars must be from 0 to the number of clients ({len(asked)}), and 0 in an honest run; got {liars}"
            )
        probe = images.images[:1].to(device)
        point = locate(model, probe)
        warnings: list[str] = []
        if run.last_round() != config.federation.rounds:
            warnings.append(
                f"the run stopped after round {run.last_round()} of {config.federation.rounds}; "
                "its last model was repaired"
            )
        votes = self._hold(model, asked, point.name, point.convolution.out_channels, progress)

        firsts: dict[int, Tensor] = {}

        def along(candidate: nn.Module, layer: str, sequence: Sequence[int], points: Sequence[int]) -> Tensor:
            """What clients report; after the first time, as a fall from each one's own first accuracy."""
            known = dict(firsts)
            reports = AccuracyVote(len(points) + bool(known), len(asked))
            self._ask(
                [client for client in asked if not known or client.client_id in known],
                lambda client: torch.cat(
                    [
                        *([known[client.client_id]] if known else []),
                        client.accuracies(candidate, layer, sequence, points),
                    ]
                ),
                reports,
                progress if len(points) > 1 else silent,
                "accuracies",
            )
            if reports.refused:
                reasons = ", ".join(f"{count} for {reason}" for reason, count in reports.refused.items())
                warnings.append(f"of {len(asked)} reports of accuracies, refused: {reasons}")
            accuracies = reports.accuracies()
            if not known:
                firsts.update(reports.firsts())
            return accuracies[bool(known) :]

        pool: TriggerPool | None = None
        fine_tune = None
        if self.fine_tuning_rounds and self.distillation is not None:
            pool = self._found(asked, model, images, validation, config.seed, progress)
            fine_tune = self._guarded(
                federation, run, model, pool, validation, self.distillation, progress, watch
            )
        elif self.fine_tuning_rounds:
            fine_tune = self._plain(federation, run, progress, watch)

        model, report = prune(
            model,
            votes,
            images=probe if validation is None else validation.images,
            labels=None if validation is None else validation.labels,
            along=along if validation is None else None,
            fine_tune=fine_tune,
            layer=point.name,
            settings=self.pruning,
            max_accuracy_drop=max_accuracy_drop,
            progress=progress,
            watch=watch,
        )
        if pool is not None and pool.refused:
            reasons = ", ".join(f"{count} for {reason}" for reason, count in pool.refused.items())
            warnings.append(f"of {len(asked)} clients' triggers, refused: {reasons}")
        return model, replace(
            report,
            settings=asdict(self),
            warnings=tuple(dict.fromkeys([*warnings, *report.warnings])),
            triggers=() if pool is None else pool.evidence(),
        )

    def _hold(
        self, model: nn.Module, asked: Sequence[Client], layer: str, channels: int, progress: Progress
    ) -> RankingVote | MajorityVote:
        if self.vote == "ranking":
            ranking = RankingVote(channels, len(asked))
            self._ask(
                asked, lambda client: ranks(client.activations(model, layer)), ranking, progress, "votes"
            )
            return ranking
        majority = MajorityVote(channels, len(asked), len(self.rates))
        self._ask(
            asked,
            lambda client: bits(client.activations(model, layer), self.rates),
            majority,
            progress,
            "votes",
        )
        return majority

    def _ask(
        self,
        clients: Sequence[Client],
        question: Callable[[Client], Any],
        vote: RankingVote | MajorityVote | AccuracyVote | TriggerPool,
        progress: Progress,
        name: str,
    ) -> None:
        """Put a question to each client. One that fails, or takes too long, has no say."""
        for number, client in enumerate(clients, 1):
            started = time.perf_counter()
            try:
                answer = question(client)
            except Exception:  # clients are untrusted and may fail in any way
                vote.admit(client.client_id, "no answer: the client failed")
            else:
                if time.perf_counter() - started > self.timeout:
                    vote.admit(client.client_id, "no answer in time")
                else:
                    vote.add(client.client_id, answer)
            progress(name, number, len(clients))

    def _plain(self, federation: Federation, run: RunFolder, progress: Progress, watch: Watch) -> FineTune:
        config, last = federation.config, run.last_round() or 0

        def train(model: nn.Module, zeros: Zeros) -> None:
            server = Server(aggregator_from_table(config.aggregation), config.federation.server_lr)
            for number in range(1, self.fine_tuning_rounds + 1):
                plan = federation.plan(last + number, mask=zeros)
                candidate, server = run_round(model, federation.choose(last + number), plan, server)
                model.load_state_dict(candidate.state_dict())
                watch(f"fine-tuning, round {number}", model)
                progress("fine-tuning", number, self.fine_tuning_rounds)

        return train

    def _guarded(
        self,
        federation: Federation,
        run: RunFolder,
        teacher: nn.Module,
        pool: TriggerPool,
        validation: ImageSet | None,
        settings: Distillation,
        progress: Progress,
        watch: Watch,
    ) -> FineTune:
        training, last = federation.config.training, run.last_round() or 0

        def train(model: nn.Module, zeros: Zeros) -> None:
            best = -1.0 if validation is None else resistance(model, validation, pool)
            kept = deepcopy(model.state_dict())
            for number in range(1, self.fine_tuning_rounds + 1):
                lesson = pool.lesson(teacher, settings, settings.lr * settings.decay ** (number - 1))
                plan = federation.plan(last + number, Distilling(lesson, training), zeros)
                guarded_round(model, federation.choose(last + number), plan, pool, validation)
                watch(f"fine-tuning, round {number}", model)
                progress("fine-tuning", number, self.fine_tuning_rounds)
                if validation is not None and (score := resistance(model, validation, pool)) > best:
                    best, kept = score, deepcopy(model.state_dict())
            if validation is not None:
                model.load_state_dict(kept)

        return train

    def _found(
        self,
        asked: Sequence[Client],
        model: nn.Module,
        images: ImageSet,
        validation: ImageSet | None,
        seed: int,
        progress: Progress,
    ) -> TriggerPool:
        """What the clients find in the suspect, and how well it works on the server's images."""
        _, channels, height, width = images.images.shape
        pool = TriggerPool((channels, height, width), images.num_classes, len(asked))
        self._ask(
            asked,
            lambda client: client.triggers(model, derive_seed(seed, "triggers", client.client_id)),
            pool,
            progress,
            "triggers",
        )
        if validation is not None:
            pool.check(model, validation.images, validation.labels)
        return pool


PAPER_RECIPE = FederatedPruning(rates=(0.5,), pruning=PAPER, distillation=None)
"""The paper's own recipe: mean ranks, pruning until a step costs more than a point, plain fine-tuning, delta 3.

Of the majority vote's rate it says that 0.3 to 0.7 do well.
"""


def last_model(run: RunFolder, images: ImageSet) -> nn.Module:
    """The global model after a run's last round.

    Raises:
        ConfigError: the run has no model yet. FedmendError: it can't be built or loaded.
    """
    number = run.last_round()
    if number is None:
        raise ConfigError(f"{run.path} holds no model yet; finish the run with fedmend simulate --resume")
    config = run.config()
    fresh = replace(config, model=replace(config.model, start=None, start_round=0))
    model = initial_model(fresh, images)
    load_checkpoint(run.checkpoint(number), model)
    return model
