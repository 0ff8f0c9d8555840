"""What the attackers of a round send together: their updates are replaced once all clients have trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from fedmend.attacks import Collusion, CollusionContext
from fedmend.errors import ConfigError
from fedmend.federation.client_fit import NOT_FINITE, Fitted, Refused, RoundPlan
from fedmend.federation.clients import Client
from fedmend.parameters import flatten, parameter_mask
from fedmend.seeds import derive_seed
from fedmend.user_code import failures_named, name_of, tensor_in_words


def after_collusion(
    fitted: Sequence[Fitted | Refused], clients: Sequence[Client], model: nn.Module, plan: RoundPlan
) -> list[Fitted | Refused]:
    """What the clients of a round sent, with the updates of attackers that collude replaced.

    Args:
        fitted: what each client sent, in the clients' order.
        clients: of the round.
        model: the global model before the round.
        plan: of the round.

    Raises:
        ConfigError: a collusion of the user's own failed, or returned something else than updates.
    """
    result, before = list(fitted), flatten(model.state_dict())
    kinds = {place: _collusion_of(client) for place, client in enumerate(clients)}
    for collusion in {id(kind): kind for kind in kinds.values() if kind is not None}.values():
        counted = [place for place, each in enumerate(fitted) if not isinstance(each, Refused)]
        own = [place for place in counted if kinds[place] is collusion]
        seen = [place for place in counted if kinds[place] is None] if collusion.omniscient else own
        if own:
            context = CollusionContext(
                known=_deltas(fitted, seen or own),
                clients=len(counted),
                parameters=parameter_mask(model).to(before.device),
                global_vector=before,
                seed=derive_seed(plan.seed, "collude", plan.number),
            )
            sent = _sent(collusion, _deltas(fitted, own), context)
            for place, delta in zip(own, sent, strict=True):
                result[place] = _replaced(fitted[place], delta)
    return result


def _collusion_of(client: Client) -> Collusion | None:
    return getattr(getattr(client, "attack", None), "collusion", None)


def _deltas(fitted: Sequence[Fitted | Refused], places: Sequence[int]) -> Tensor:
    chosen = (fitted[place] for place in places)
    return torch.stack([each[0].delta for each in chosen if not isinstance(each, Refused)])


def _sent(collusion: Collusion, own: Tensor, context: CollusionContext) -> Tensor:
    with failures_named("collusion", collusion):
        sent = collusion(own, context)
    if not isinstance(sent, Tensor) or (sent.shape, sent.dtype) != (own.shape, own.dtype):
        raise ConfigError(
            f"the collusion {name_of(collusion)} must return new updates like those it is given, "
            f"{tensor_in_words(own)}; got {tensor_in_words(sent)}"
        )
    return torch.where(context.parameters, sent, own)


def _replaced(each: Fitted | Refused, delta: Tensor) -> Fitted | Refused:
    if isinstance(each, Refused):
        return each
    update, buffers = each
    if not bool(delta.isfinite().all()):
        return Refused(update.client_id, NOT_FINITE)
    return replace(update, delta=delta), buffers
