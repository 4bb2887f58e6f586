"""What a worker asks the gateways before it takes jobs."""

import msgspec
import pytest

from crew.protocol import briefing
from crew.protocol.message import Briefing
from crew.protocol.properties import MalformedMessage

ASKED = Briefing(id="q1", worker="w1", tasks=("resize", "crew.http"))


def test_a_briefing_arrives_as_it_was_asked() -> None:
    assert briefing.to_briefing(*briefing.of_briefing(ASKED)) == ASKED


def test_a_briefing_does_not_stay_in_the_queue_where_no_gateway_takes_it() -> None:
    properties, _ = briefing.of_briefing(ASKED)
    assert (properties.expiration, properties.delivery_mode) == (str(briefing.TTL_MS), 1)


@pytest.mark.parametrize("change", [{"correlation_id": None}, {"reply_to": ""}, {"reply_to": 3}])
def test_a_briefing_of_nobody_is_malformed(change: dict[str, object]) -> None:
    properties, data = briefing.of_briefing(ASKED)
    with pytest.raises(MalformedMessage):
        briefing.to_briefing(msgspec.structs.replace(properties, **change), data)


@pytest.mark.parametrize("data", [b"", b"{}", b'"resize"', b"[1]", b"\xff"])
def test_a_briefing_that_names_no_tasks_is_malformed(data: bytes) -> None:
    properties, _ = briefing.of_briefing(ASKED)
    with pytest.raises(MalformedMessage):
        briefing.to_briefing(properties, data)
