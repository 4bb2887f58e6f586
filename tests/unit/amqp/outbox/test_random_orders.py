"""Property tests: an outbox under any order of confirms, losses and time."""

import itertools
from collections.abc import Callable, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from crew.amqp import ConfirmStatus
from crew.amqp.outbox.policy import CALLS, REPLIES, OutboxPolicy
from tests.support.outboxes import Message, Sender

CONFIRMED, RETURNED, REFUSED = ConfirmStatus.CONFIRMED, ConfirmStatus.RETURNED, ConfirmStatus.REFUSED
TOO_LARGE, INVALID, LOST = ConfirmStatus.TOO_LARGE, ConfirmStatus.INVALID, ConfirmStatus.LOST


STEPS = ["send", "confirm", "refuse", "return", "lose", "reconnect", "break", "time", "confirm timeout"]


@settings(deadline=None)
@given(
    steps=st.lists(st.sampled_from(STEPS), max_size=40),
    policy=st.sampled_from([CALLS, REPLIES]),
    persistent=st.booleans(),
)
def test_each_message_ends_once_and_none_is_forgotten(
    steps: Sequence[str], policy: OutboxPolicy, persistent: bool
) -> None:
    sender = Sender(policy, max_messages=5)
    sender.link.is_replicated = True
    messages: list[Message] = []
    actions: dict[str, Callable[[], object]] = {
        "send": lambda: messages.append(sender.send(str(len(messages)), persistent=persistent)),
        "confirm": lambda: sender.link.confirm_all(),
        "refuse": lambda: sender.link.confirm_all(REFUSED),
        "return": lambda: sender.link.confirm_all(RETURNED),
        "lose": sender.lose_connection,
        "reconnect": sender.reconnect,
        "break": lambda: setattr(sender.link, "breaks", 1),
        "time": lambda: sender.timers.advance(1.0),
        "confirm timeout": sender.time_out,
    }
    for step in steps:
        actions[step]()
        assert len(sender.outbox) + sender.outbox.returned == sum(not message.ends for message in messages)
        assert all(len(message.ends) <= 1 for message in messages)
    sender.link.breaks = 0
    sender.reconnect()
    sender.timers.advance(10.0)
    sender.reconnect()
    sender.link.confirm_all()
    assert all(len(message.ends) == 1 for message in messages)
    assert (len(sender.outbox), sender.outbox.returned) == (0, 0)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["send", "lose", "reconnect"]), max_size=30))
def test_over_one_connection_messages_are_in_their_order(steps: Sequence[str]) -> None:
    sender, numbers = Sender(), itertools.count()
    for step in steps:
        if step == "send":
            sender.send(f"{next(numbers):03}")
        elif step == "lose":
            sender.lose_connection()
        else:
            sender.link.published.clear()
            sender.reconnect()
            again = [one for one in sender.published if one is not None]
            assert again == sorted(again)
