"""Names, queues, bindings and topics."""

import re
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crew.protocol import topology
from crew.protocol.topology import Binding, Queue

words = st.text("ab", max_size=2)
topics = st.lists(words, min_size=1, max_size=6).map(".".join)
patterns = st.lists(words | st.sampled_from(["*", "#"]), min_size=1, max_size=5).map(".".join)


def routes(pattern: list[str], topic: list[str]) -> bool:
    """A minimal model of RabbitMQ's topic exchange."""
    if not pattern:
        return not topic
    if pattern[0] == "#":
        return routes(pattern[1:], topic) or (bool(topic) and routes(pattern, topic[1:]))
    return bool(topic) and pattern[0] in ("*", topic[0]) and routes(pattern[1:], topic[1:])


def matches(pattern: str, topic: str) -> bool:
    """Whether a subscription to `pattern` gets events on `topic`."""
    return topology.topic_matches(pattern, topic)


@given(patterns, topics)
@example("#", "a")
@example("a.#", "a")
@example("#.a", "a")
@example("a.*", "a")
@example("a.#.b", "a.b")
@example("*", "")
@settings(deadline=None, max_examples=200)
def test_a_subscription_matches_the_topics_that_rabbitmq_routes_to_it(pattern: str, topic: str) -> None:
    assert matches(pattern, topic) == routes(pattern.split("."), topic.split("."))


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
@example("a|b", "a")
@example(".", "\n")
@example("[a]", "a")
@settings(deadline=None, max_examples=50)
def test_a_topic_without_wildcards_matches_itself_only(pattern: str, topic: str) -> None:
    if not {"*", "#"} & set(pattern.split(".")):
        assert matches(pattern, pattern)
        assert matches(pattern, topic) == (pattern == topic)


@pytest.mark.parametrize("pattern", [".".join(["#", "a"] * 5 + ["b"]), ".".join(["#"] * 5 + ["b"])])
def test_a_pattern_with_many_wildcards_is_matched_within_a_second(pattern: str) -> None:
    topic = ".".join(["a"] * 100)
    started = time.perf_counter()
    assert not matches(pattern, topic)
    assert time.perf_counter() - started < 1


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "resize", "a.b", "übung", "a b", "x" * 244])
def test_a_task_may_have_any_name_that_fits_a_queue(name: str) -> None:
    assert topology.check_name("task", name) == name
    assert len(topology.task_queue_name(name).encode()) <= 255


@pytest.mark.parametrize("name", ["", "x" * 245, "ü" * 123, "a\nb", "a\0", "\x7f", None, 7, b"bytes", ["a"]])
def test_an_invalid_name_is_a_value_error_that_names_the_field(name: Any) -> None:
    with pytest.raises(ValueError, match="task must"):
        topology.check_name("task", name)


def test_a_name_that_is_not_utf_8_is_a_value_error() -> None:
    """Otherwise the error comes only when pika encodes the name."""
    with pytest.raises(ValueError, match="task must"):
        topology.check_name("task", "resize\ud800")


@given(st.text(min_size=1))
@example("crew.again.t")
@example("crew.tasks.t")
def test_the_task_is_read_from_the_name_of_its_queue(task: str) -> None:
    assert topology.task_of_queue(topology.task_queue_name(task)) == task
    assert topology.task_of_queue(topology.again_queue_name(task)) == task


# --- what is declared -----------------------------------------------------------------------------------------------


def test_client_and_worker_declare_the_same_queue() -> None:
    assert topology.task_queue("t") == topology.task_queue("t")


def test_a_task_queue_has_ten_priorities_and_a_dead_letter_exchange() -> None:
    queue = topology.task_queue("resize")
    assert queue.name == "crew.tasks.resize"
    assert queue.arguments == {"x-max-priority": 9, "x-dead-letter-exchange": "crew.DLX"}


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_a_bounded_queue_rejects_new_calls_but_not_those_that_are_published_again(queue_type: str) -> None:
    queue = topology.of_type(topology.task_queue("resize", max_queue=7), queue_type)
    back = topology.of_type(topology.again_queue("resize"), queue_type)
    assert isinstance(queue, Queue)
    assert isinstance(back, Queue)
    bound = {"x-max-length": 7, "x-overflow": "reject-publish"}
    assert bound.items() <= queue.arguments.items()
    assert (back.name, back.arguments) == (
        "crew.again.resize",
        {k: queue.arguments[k] for k in queue.arguments.keys() - bound},
    )


def test_dead_letters_go_to_their_own_client_only() -> None:
    """RabbitMQ ignores binding keys that begin with `x-`: such a binding would match every client's dead letters."""
    queue, binding = topology.reply_queue("me")
    keys = {key for key in binding.arguments if key != "x-match"}
    assert keys == {"crew-client"}
    assert binding.arguments["crew-client"] == "me"
    assert (binding.queue, binding.exchange) == (queue.name, "crew.DLX")


def test_replies_outlive_a_disconnect_of_five_minutes() -> None:
    queue, _ = topology.reply_queue("me")
    assert queue.arguments == {"x-expires": 300_000}


def test_a_delayed_call_returns_to_the_queue_of_its_task() -> None:
    """The queue sets no dead-letter routing key, so the message keeps its own."""
    queue, binding = topology.delay_queue(1500)
    assert queue.name == "crew.retry.1500"
    assert queue.arguments["x-message-ttl"] == 1500
    assert queue.arguments["x-dead-letter-exchange"] == ""
    assert "x-dead-letter-routing-key" not in queue.arguments
    assert (binding.queue, binding.exchange) == (queue.name, "crew.retry")
    assert binding.arguments == {"crew-delay": 1500, "x-match": "all"}


@pytest.mark.parametrize("delay_ms", [1, 1500, 86_400_000])
def test_an_unused_delay_queue_expires_but_not_before_its_calls(delay_ms: int) -> None:
    queue, _ = topology.delay_queue(delay_ms)
    assert queue.arguments["x-expires"] == delay_ms + 600_000
    assert queue.arguments["x-expires"] < 2**32, "RabbitMQ allows no more milliseconds"


def test_subscription_and_parked_queues_are_bounded() -> None:
    assert topology.subscription_queue("me").arguments["x-max-length"] == 10_000
    assert topology.parked_queue().arguments["x-max-length"] == 100_000


def test_a_subscription_binds_the_queue_of_its_client_to_its_topic() -> None:
    binding = topology.subscription("me", "news.*")
    assert (binding.queue, binding.exchange, binding.key) == (
        topology.subscription_queue("me").name,
        "crew.PUBSUB",
        "news.*",
    )


# --- control --------------------------------------------------------------------------------------------------------


def receives(worker: str, tasks: list[str], key: str) -> bool:
    """Whether `worker`, which serves `tasks`, receives control messages published with `key`."""
    return any(routes(one.key.split("."), key.split(".")) for one in topology.control_bindings(worker, tasks))


def test_a_worker_receives_control_messages_for_itself_and_for_its_tasks() -> None:
    tasks = ["resize", "image.crop"]
    for key in (topology.control_key_of_worker("w1"), *map(topology.control_key_of_task, tasks)):
        assert receives("w1", tasks, key)
    for key in (topology.control_key_of_worker("w2"), *map(topology.control_key_of_task, ["other", "image", "w1"])):
        assert not receives("w1", tasks, key)


@pytest.mark.parametrize("task", ["*", "#", "a.*.b", "a.#", "worker.w2", "task.resize", "..", " "])
def test_a_worker_receives_control_messages_for_a_task_of_any_name(task: str) -> None:
    assert receives("w1", [task], topology.control_key_of_task(task))


def test_the_name_of_a_task_is_never_taken_for_a_worker() -> None:
    assert not receives("w1", ["worker.w2", "#"], topology.control_key_of_worker("w2"))


def test_the_control_queue_of_a_worker_is_bounded_and_survives_a_short_disconnect() -> None:
    queue = topology.control_queue("w1")
    assert queue.name == "crew.control.w1"
    assert queue.arguments == {"x-expires": 60_000, "x-max-length": 10_000}
    assert {(one.queue, one.exchange) for one in topology.control_bindings("w1", ["t"])} == {
        ("crew.control.w1", "crew.control")
    }
    assert topology.Exchange("crew.control", "topic") in topology.EXCHANGES


@pytest.mark.parametrize("task", ["x" * 244, "ü" * 122])
def test_the_longest_task_name_fits_a_routing_key(task: str) -> None:
    """AMQP's short string holds 255 bytes."""
    assert len(topology.control_key_of_task(topology.check_name("task", task)).encode()) <= 255


ALL_QUEUES = [
    topology.task_queue("t"),
    topology.task_queue("t", max_queue=7),
    topology.again_queue("t"),
    topology.delay_queue(1500)[0],
    topology.reply_queue("me")[0],
    topology.subscription_queue("me"),
    topology.control_queue("w1"),
    topology.parked_queue(),
]


@pytest.mark.parametrize("queue", ALL_QUEUES, ids=[queue.name for queue in ALL_QUEUES])
def test_every_queue_is_a_quorum_queue_if_the_type_is_quorum(queue: Queue) -> None:
    quorum = topology.of_type(queue, "quorum")

    assert isinstance(quorum, Queue)
    assert quorum.name == queue.name
    assert quorum.arguments["x-queue-type"] == "quorum"
    assert "x-max-priority" not in quorum.arguments  # refused on a quorum queue
    unchanged = {name: value for name, value in queue.arguments.items() if name != "x-max-priority"}
    assert unchanged.items() <= quorum.arguments.items()


@pytest.mark.parametrize("queue", ALL_QUEUES, ids=[queue.name for queue in ALL_QUEUES])
def test_a_classic_queue_names_its_type_and_is_not_changed_otherwise(queue: Queue) -> None:
    """A virtual host may have another default type."""
    assert topology.of_type(queue, "classic") == Queue(queue.name, {**queue.arguments, "x-queue-type": "classic"})


def test_exchanges_and_bindings_have_no_queue_type() -> None:
    items: list[topology.Item] = [*topology.EXCHANGES, topology.reply_queue("me")[1]]
    for item in items:
        assert topology.of_type(item, "quorum") is item


def test_a_quorum_queue_does_not_discard_a_call_that_is_requeued_often() -> None:
    quorum = topology.of_type(topology.task_queue("t"), "quorum")

    assert isinstance(quorum, Queue)
    assert quorum.arguments["x-delivery-limit"] > 100_000  # RabbitMQ 4 has 20


def test_a_quorum_queue_of_delayed_calls_loses_no_call() -> None:
    waiting = topology.of_type(topology.delay_queue(1500)[0], "quorum")
    serving = topology.of_type(topology.task_queue("t"), "quorum")

    assert isinstance(waiting, Queue)
    assert isinstance(serving, Queue)
    assert waiting.arguments["x-dead-letter-strategy"] == "at-least-once"
    assert waiting.arguments["x-overflow"] == "reject-publish"  # required by the strategy
    assert "x-dead-letter-strategy" not in serving.arguments


@pytest.mark.parametrize(
    ("version", "missing"),
    [("3.10.8", "no priorities"), ("3.13.7", "no priorities"), ("4.0.5", "two levels"), ("4.2.1", "two levels")],
)
def test_the_limits_of_quorum_queues_are_named_by_version(version: str, missing: str) -> None:
    assert missing in str(topology.shortcoming("quorum", version))
    assert version in str(topology.shortcoming("quorum", version))


@pytest.mark.parametrize(
    ("queue_type", "version"), [("classic", "3.10.8"), ("quorum", "4.3.6"), ("quorum", "5.0.0"), ("quorum", "")]
)
def test_no_limit_is_named_for_classic_queues_and_new_versions(queue_type: str, version: str) -> None:
    assert topology.shortcoming(queue_type, version) is None


# --- the wire format: other versions of crew declare and publish the same --------------------------------------------


def test_every_queue_has_the_name_and_arguments_of_all_versions() -> None:
    assert topology.again_queue("t") == Queue(
        "crew.again.t", {"x-max-priority": 9, "x-dead-letter-exchange": "crew.DLX"}
    )
    assert topology.holding_queue("t") == Queue("crew.moved.t", {"x-dead-letter-exchange": "crew.DLX"})
    assert topology.subscription_queue("me") == Queue(
        "crew.subscribe.me", {"x-expires": 60_000, "x-max-length": 10_000}
    )
    assert topology.clock_queue("1") == Queue("crew.clock.1", {"x-expires": 10_000, "x-dead-letter-exchange": ""})
    assert topology.parked_queue() == Queue("crew.parked", {"x-max-length": 100_000})
    assert topology.task_of_queue("crew.moved.t") == "t"
    assert topology.task_of_queue("other") == "other"


def test_every_binding_has_the_key_and_arguments_of_all_versions() -> None:
    client = {"crew-client": "me", "x-match": "all"}
    assert topology.reply_queue("me")[1] == Binding("crew.reply.me", "crew.DLX", "", client)
    assert topology.delay_queue(5)[1] == Binding("crew.retry.5", "crew.retry", "", {"crew-delay": 5, "x-match": "all"})
    assert topology.subscription("me", "a.#") == Binding("crew.subscribe.me", "crew.PUBSUB", "a.#")
    assert topology.control_bindings("w", ["t"]) == [
        Binding("crew.control.w", "crew.control", "worker.w"),
        Binding("crew.control.w", "crew.control", "task.t"),
    ]


def test_the_queue_of_a_job_store_gets_dead_letters_and_revocation_requests() -> None:
    queue, dead_letters, requests = topology.jobs_queue("s")
    assert queue == Queue("crew.jobs.s", {})
    assert dead_letters == Binding("crew.jobs.s", "crew.DLX", "", {"crew-client": "crew.jobs.s", "x-match": "all"})
    assert requests == Binding("crew.jobs.s", "crew.control", "jobs.briefing")
    assert topology.jobs_queue_name("s") == queue.name
    assert topology.is_jobs_queue(queue.name)
    assert not topology.is_jobs_queue("crew.reply.crew.jobs.s")


def test_the_sentence_about_quorum_queues_names_what_a_newer_version_has() -> None:
    assert topology.shortcoming("quorum", "3.13.7") == (
        "quorum queues of RabbitMQ 3.13.7 have no priorities; with 4.3 they have ten"
    )
    assert topology.shortcoming("quorum", "4.2.0") == (
        "quorum queues of RabbitMQ 4.2.0 have two levels of priority, 0 to 127 and 128 to 255, served in turns; with "
        "4.3 they have ten"
    )
    assert topology.shortcoming("quorum", "4.3") is None
    assert topology.shortcoming("quorum", "beta 3.10") is None


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (7, "task must be a string, not 7"),
        ("a\ud800", r"task must be valid Unicode, not 'a\ud800'"),
        ("", "task must have 1 to 244 bytes and no control characters, not ''"),
        ("a\x1fb", "task must have 1 to 244 bytes and no control characters, not "),
        ("x" * 245, "task must have 1 to 244 bytes and no control characters, not "),
    ],
)
def test_the_error_for_a_name_says_what_is_allowed(name: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        topology.check_name("task", name)
    with pytest.raises(ValueError, match=f"^{re.escape(sentence.replace('task', 'topic'))}"):
        topology.check_topic(name)
    assert topology.check_topic("a.#") == "a.#"


@pytest.mark.parametrize(
    ("pattern", "topic", "is_match"),
    [
        ("a", "a", True),
        ("a.b", "a", False),
        ("a", "a.b", False),
        ("*", "a.b", False),
        ("*.*", "a.b", True),
        ("#", "a.b", True),
        ("a.#", "b.a", False),
        ("#.b", "a.b", True),
        ("#.b.#", "a.b.c", True),
        ("#.a.#.a", "a.b", False),
        ("a.#.#", "a", True),
        ("a.#.a", "a", False),
        ("b.#", "a.b", False),
    ],
)
def test_a_pattern_matches_whole_words(pattern: str, topic: str, is_match: bool) -> None:
    assert topology.topic_matches(pattern, topic) is is_match
