"""Which replies of clients a strategy may see: one that could break or poison the aggregation by its form is left out.

Flower's strategies raise, and end the federation, if one reply has other names or metrics than the rest, and NumPy may
stretch an array of the wrong shape to the right one. Clients are untrusted, so such replies are dropped here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeAlias

import numpy as np
from flwr.app import Message, MetricRecord

from fedmend.aggregation.base import MOST_EXAMPLES
from fedmend.integrations.flower.array_layout import ArrayLayout
from fedmend.integrations.flower.array_parsing import parsed

Form: TypeAlias = tuple[object, ...]

NO_MODEL = "its reply holds no model of this federation"
NOT_FINITE = "its model holds NaN or infinite values"
NO_METRICS = "its reply's metrics have another form than most"
EXAMPLES = f"its number of examples isn't a number above 0, at most {MOST_EXAMPLES:,}"


def usable(
    replies: Iterable[Message], check: Callable[[Message], str | None], weighted_by: str
) -> tuple[list[Message], dict[int, str]]:
    """The replies to aggregate, and why others are left out, by node. Messages of an error are kept.

    Args:
        replies: of a round.
        check: the flaw of a reply, apart from its metrics; None if there is none.
        weighted_by: the metric that holds the number of examples.
    """
    kept, refused = [], {}
    for reply in replies:
        flaw = None if reply.has_error() else check(reply) or _metrics_flaw(reply, weighted_by)
        if flaw is None:
            kept.append(reply)
        else:
            refused[reply.metadata.src_node_id] = flaw
    forms = {id(reply): _form(reply) for reply in kept if not reply.has_error()}
    usual = Counter(forms.values()).most_common(1)
    for reply in kept:
        if id(reply) in forms and forms[id(reply)] != usual[0][0]:
            refused[reply.metadata.src_node_id] = NO_METRICS
    return [reply for reply in kept if reply.metadata.src_node_id not in refused], refused


def model_flaw(reply: Message, layout: ArrayLayout) -> str | None:
    """Why a reply doesn't hold a trained model: it needs the same names, shapes and kinds of numbers, all finite."""
    records = list(reply.content.array_records.values())
    if len(records) != 1 or list(records[0]) != [entry.array for entry in layout.entries]:
        return NO_MODEL
    for entry in layout.entries:
        values = parsed(records[0][entry.array], most_bytes=8 * math.prod(entry.shape))
        if values is None or values.shape != entry.shape:
            return NO_MODEL
        if not np.can_cast(values.dtype, entry.sent_as, "same_kind"):
            return NO_MODEL
        if not bool(np.isfinite(values).all()):
            return NOT_FINITE
    return None


def no_flaw(reply: Message) -> str | None:
    """The check of a reply that holds metrics only."""
    return None


def _metrics_flaw(reply: Message, weighted_by: str) -> str | None:
    records = list(reply.content.metric_records.values())
    if len(records) != 1:
        return NO_METRICS
    examples = records[0].get(weighted_by)
    if not isinstance(examples, int | float) or not 0 < examples <= MOST_EXAMPLES:  # nor NaN
        return EXAMPLES
    return None


def _form(reply: Message) -> Form:
    """What must be the same in all replies: the records' and the metrics' names, and the lengths of lists."""
    ((name, metrics),) = reply.content.metric_records.items()
    return (tuple(reply.content.array_records), name, _metrics_form(metrics))


def _metrics_form(metrics: MetricRecord) -> Form:
    return tuple(
        sorted((key, len(value) if isinstance(value, list) else -1) for key, value in metrics.items())
    )
