"""nats-py's request and reply over a NATS server: no acknowledgements, no confirms, nothing is kept."""

from typing import Any

import load
import msgspec
import nats

from peers.role import TIMEOUT, main, until_stopped

SUBJECT = "benchmark.echo"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


async def worker(address: str) -> None:
    """Serve the echo."""
    connection = await nats.connect(f"nats://{address}")

    async def echo(message: Any) -> None:
        await message.respond(_encode(_decode(message.data)))

    await connection.subscribe(SUBJECT, cb=echo)
    await connection.flush()
    await until_stopped()


async def client(address: str) -> None:
    """Run the orders from stdin."""
    connection = await nats.connect(f"nats://{address}")

    async def call(payload: Any) -> Any:
        return _decode((await connection.request(SUBJECT, _encode(payload), timeout=TIMEOUT)).data)

    await load.serve(call)


if __name__ == "__main__":
    main(client, worker)
