"""fedmend in Flower: a guard around a strategy, and votes of clients as messages. Needs the extra ``fedmend[flower]``.

Written for Flower's Message API: ``ServerApp``, ``ClientApp`` and ``flwr.serverapp.strategy``.
"""

from fedmend.integrations.flower.guarded_strategy import GuardedStrategy
from fedmend.integrations.flower.remote_clients import RemoteClient, remote_participants
from fedmend.integrations.flower.vote_answers import answer_votes
from fedmend.integrations.flower.vote_messages import Question

__all__ = ["GuardedStrategy", "Question", "RemoteClient", "answer_votes", "remote_participants"]
