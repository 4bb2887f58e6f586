"""Other ways to call Python from Python: the same echo, with the interface of `floor.py`.

    PYTHONPATH=benchmarks .venv-peers/bin/python -m peers.MODULE client|worker ADDRESS

Each system is used as its documentation says, with JSON, one worker process and a prefetch of 64 where it has one.
ADDRESS is the HOST:PORT of its server; the URL of RabbitMQ is in CREW_AMQP_URL.
"""

from typing import Final, NamedTuple


class Peer(NamedTuple):
    """A system to compare with.

    Attributes:
        distributions: that it needs, the system itself first; names of PyPI.
        server: beside RabbitMQ: "redis", "nats" or none.
        uses_rabbitmq: whether its messages pass RabbitMQ.
    """

    name: str
    module: str
    distributions: tuple[str, ...]
    server: str = ""
    uses_rabbitmq: bool = True


PEERS: Final = (
    Peer("aio-pika RPC", "peers.aio_pika_rpc", ("aio-pika",)),
    Peer("Celery rpc://", "peers.celery_rpc", ("celery",)),
    Peer("Dramatiq", "peers.dramatiq_redis", ("dramatiq", "redis", "pika"), server="redis"),
    Peer("Taskiq", "peers.taskiq_redis", ("taskiq", "taskiq-aio-pika", "taskiq-redis"), server="redis"),
    Peer("FastStream", "peers.faststream_rpc", ("faststream", "aio-pika")),
    Peer("grpc.aio", "peers.grpc_aio", ("grpcio",), uses_rabbitmq=False),
    Peer("nats-py", "peers.nats_rpc", ("nats-py",), server="nats", uses_rabbitmq=False),
)
