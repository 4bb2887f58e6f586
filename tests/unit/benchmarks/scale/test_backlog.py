"""The calls with which `make bench-scale` fills a queue: crew can read them."""

from pika import frame, spec
from scale.backlog import BODY, EXPIRATION, call_frames

from crew.protocol.properties import Properties, to_call


def test_a_worker_reads_a_call_of_the_backlog() -> None:
    head, identity, tail = call_frames("resize", "sink")
    data = head + b"7" * 32 + tail
    consumed, publish = frame.decode_frame(data)
    more, header = frame.decode_frame(data[consumed:])
    _, body = frame.decode_frame(data[consumed + more :])
    assert isinstance(publish, frame.Method)
    assert isinstance(publish.method, spec.Basic.Publish)
    assert publish.method.routing_key == "crew.tasks.resize"
    assert isinstance(header, frame.Header)
    assert isinstance(body, frame.Body)
    sent = header.properties
    known = {name: getattr(sent, name) for name in Properties.__struct_fields__}
    known["headers"] = {name: int(value) if isinstance(value, int) else value for name, value in sent.headers.items()}
    call = to_call("resize", Properties(**known), body.fragment, make_id=lambda: "none")
    assert call.id == "7" * len(identity)
    assert (call.reply_to, call.priority, call.persistent, call.body.data) == ("sink", 0, True, BODY)
    assert sent.expiration == str(EXPIRATION * 1000)
