"""The states of an execution, and every transition between them.

An execution has one state in each of five parts. Each part is moved by one thread only, so that no lock is needed; only
the result is decided by whichever thread is first.

    task        waiting ──start──> running ──end──> ended
                waiting ──end──> ended
    result      undecided ──decide──> decided
                undecided ──interrupt──> interrupted
    start       unannounced ──announce──> announced
    settlement  open ──settle──> settling ──confirm──> settled
                                 settling ──discard──> discarded
    delivery    held ──acknowledge──> acknowledged ──redeliver──> held
                held ──acknowledge at start──> acknowledged
                held ──lose──> lost ──redeliver──> held
                held ──requeue──> requeued

`CONDITIONS` join the parts: an execution is settled after its result is decided, and acknowledged after the broker has
its reply, unless it is acknowledged at its start. An illegal transition is a bug in the worker and raises.

No transition is logged: some are made in the thread of a task, where an interrupt could leave the lock of the log
locked. `ExecutionLog` logs the end.
"""

import enum
import itertools
import operator
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from crew.worker.execution.interrupt import InterruptReason
from crew.worker.execution.result import Result


class ExecutionState(enum.StrEnum):
    """The state of one part of an execution."""

    # Of its task. Moved by the thread that runs it; by the I/O thread if an interrupt has ended that thread too early.
    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"

    # Of its result. The first thread decides.
    UNDECIDED = "undecided"
    DECIDED = "decided"
    INTERRUPTED = "interrupted"

    # Of its start, as its caller knows it. All states from here on are moved by the I/O thread.
    UNANNOUNCED = "unannounced"
    ANNOUNCED = "announced"

    # Of its settlement.
    OPEN = "open"
    SETTLING = "settling"  # its reply or retry is published, and waits for the broker's confirm
    SETTLED = "settled"
    DISCARDED = "discarded"  # there is no reply: its delivery goes back to its queue

    # Of its delivery.
    HELD = "held"
    ACKNOWLEDGED = "acknowledged"
    LOST = "lost"  # with its channel: the broker delivers it again
    REQUEUED = "requeued"


class ExecutionEvent(enum.StrEnum):
    """An event that changes the state of one part of an execution."""

    START = "start"
    END = "end"
    DECIDE = "decide"
    INTERRUPT = "interrupt"
    ANNOUNCE = "announce"
    SETTLE = "settle"
    CONFIRM = "confirm"
    DISCARD = "discard"
    ACKNOWLEDGE_AT_START = "acknowledge at start"  # so that a call that may run once only does not run again
    ACKNOWLEDGE = "acknowledge"
    LOSE = "lose"
    REQUEUE = "requeue"
    REDELIVER = "redeliver"  # while it still runs: it gets the new delivery


_S, _E = ExecutionState, ExecutionEvent

# For the code that runs for each call: on Python 3.11, reading a member from its enum costs ten times as much as this.
WAITING: Final = _S.WAITING
RUNNING: Final = _S.RUNNING
ENDED: Final = _S.ENDED
UNDECIDED: Final = _S.UNDECIDED
DECIDED: Final = _S.DECIDED
INTERRUPTED: Final = _S.INTERRUPTED
UNANNOUNCED: Final = _S.UNANNOUNCED
ANNOUNCED: Final = _S.ANNOUNCED
OPEN: Final = _S.OPEN
HELD: Final = _S.HELD
ACKNOWLEDGED: Final = _S.ACKNOWLEDGED

START: Final = _E.START
END: Final = _E.END
ANNOUNCE: Final = _E.ANNOUNCE
SETTLE: Final = _E.SETTLE
CONFIRM: Final = _E.CONFIRM
DISCARD: Final = _E.DISCARD
ACKNOWLEDGE_AT_START: Final = _E.ACKNOWLEDGE_AT_START
ACKNOWLEDGE: Final = _E.ACKNOWLEDGE
LOSE: Final = _E.LOSE
REQUEUE: Final = _E.REQUEUE
REDELIVER: Final = _E.REDELIVER

TRANSITIONS: Final[dict[str, dict[ExecutionState, dict[ExecutionEvent, ExecutionState]]]] = {
    "task": {
        _S.WAITING: {_E.START: _S.RUNNING, _E.END: _S.ENDED},
        _S.RUNNING: {_E.END: _S.ENDED},
        _S.ENDED: {},
    },
    "result": {
        _S.UNDECIDED: {_E.DECIDE: _S.DECIDED, _E.INTERRUPT: _S.INTERRUPTED},
        _S.DECIDED: {},
        _S.INTERRUPTED: {},
    },
    "start": {
        _S.UNANNOUNCED: {_E.ANNOUNCE: _S.ANNOUNCED},
        _S.ANNOUNCED: {},
    },
    "settlement": {
        _S.OPEN: {_E.SETTLE: _S.SETTLING},
        _S.SETTLING: {_E.CONFIRM: _S.SETTLED, _E.DISCARD: _S.DISCARDED},
        _S.SETTLED: {},
        _S.DISCARDED: {},
    },
    "delivery": {
        _S.HELD: {
            _E.ACKNOWLEDGE_AT_START: _S.ACKNOWLEDGED,
            _E.ACKNOWLEDGE: _S.ACKNOWLEDGED,
            _E.LOSE: _S.LOST,
            _E.REQUEUE: _S.REQUEUED,
        },
        _S.ACKNOWLEDGED: {_E.REDELIVER: _S.HELD},
        _S.LOST: {_E.REDELIVER: _S.HELD},
        _S.REQUEUED: {},
    },
}

# Event -> alternatives: it is legal only while the execution has all states of one of them.
CONDITIONS: Final[dict[ExecutionEvent, tuple[frozenset[ExecutionState], ...]]] = {
    _E.ANNOUNCE: (frozenset({_S.OPEN}),),
    _E.SETTLE: (frozenset({_S.DECIDED}), frozenset({_S.INTERRUPTED})),
    _E.ACKNOWLEDGE_AT_START: (frozenset({_S.OPEN}),),
    _E.ACKNOWLEDGE: (frozenset({_S.SETTLED}),),
    _E.REQUEUE: (frozenset({_S.DISCARDED}), frozenset({_S.WAITING, _S.OPEN})),
    _E.REDELIVER: (frozenset({_S.UNDECIDED, _S.OPEN}),),
}

_FIRST: Final = frozenset(next(iter(table)) for table in TRANSITIONS.values())  # the state in which each part begins


class _Move(NamedTuple):
    """One event: changes the state of `part`, as `targets` says for what `read` finds."""

    part: str
    read: Callable[["ExecutionStateMachine"], object]
    targets: dict[object, ExecutionState]


def _move_of(event: ExecutionEvent) -> _Move:
    """Join the tables: `read` finds the states of the part and of those that the conditions name."""
    part = next(part for part, table in TRANSITIONS.items() if any(event in targets for targets in table.values()))
    alternatives = CONDITIONS.get(event, (frozenset(),))
    named = frozenset().union(*alternatives)
    parts = [part, *(other for other, table in TRANSITIONS.items() if other != part and not named.isdisjoint(table))]
    targets: dict[object, ExecutionState] = {}
    for states in itertools.product(*(TRANSITIONS[name] for name in parts)):
        target = TRANSITIONS[part][states[0]].get(event)
        if target is not None and any(alternative.issubset(states) for alternative in alternatives):
            targets[states if len(parts) > 1 else states[0]] = target
    return _Move(part, operator.attrgetter(*parts), targets)


_MOVES: Final = {event: _move_of(event) for event in ExecutionEvent}


class Decision(msgspec.Struct, frozen=True):
    """The result of an execution; with `reason` and `at` (time.monotonic()) if an interrupt decided it."""

    result: Result
    reason: InterruptReason | None = None
    at: float | None = None


class ExecutionStateMachine(msgspec.Struct, eq=False):
    """The states of one execution: follows the table.

    Attributes:
        decisions: the first one decides the result. `list.append` is atomic, and needs no lock that an interrupt could
            leave locked.
    """

    task: ExecutionState = WAITING
    start: ExecutionState = UNANNOUNCED
    settlement: ExecutionState = OPEN
    delivery: ExecutionState = HELD
    decisions: list[Decision] = []

    def __repr__(self) -> str:
        return f"<ExecutionStateMachine: {self}>"

    def __str__(self) -> str:
        parts = [one for one in (self.start, self.settlement, self.delivery) if one not in _FIRST]
        if self.result is INTERRUPTED:
            parts.append(self.result)
        if self.task is not RUNNING or self.result is not INTERRUPTED:
            parts.append(self.task)
        return ", ".join(parts)

    @property
    def result(self) -> ExecutionState:
        """The state of its result."""
        if not self.decisions:
            return UNDECIDED
        return DECIDED if self.decisions[0].reason is None else INTERRUPTED

    def states(self) -> tuple[ExecutionState, ...]:
        """The state of each part, in the order of the table."""
        return self.task, self.result, self.start, self.settlement, self.delivery

    def decide(self, decision: Decision) -> bool:
        """Decide the result, in any thread; False if it was decided before."""
        if not self.decisions:
            self.decisions.append(decision)
        return self.decisions[0] is decision

    def allows(self, event: ExecutionEvent) -> bool:
        """Whether the tables allow `event` now."""
        _, read, targets = _MOVES[event]
        return read(self) in targets

    def move(self, event: ExecutionEvent) -> None:
        """Change the state by `event`; raise RuntimeError where the tables forbid it."""
        part, read, targets = _MOVES[event]
        target = targets.get(read(self))
        if target is None:
            raise RuntimeError(f"execution is {self}: event {event.value!r} is not allowed in this state")
        setattr(self, part, target)
