"""grpc.aio: one connection from the client to the worker, with JSON bodies instead of Protocol Buffers."""

from typing import Any

import grpc
import load
import msgspec

from peers.role import main, until_stopped

METHOD = "/benchmark/echo"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


async def echo(request: Any, _: Any) -> Any:
    """Return the payload."""
    return request


async def worker(address: str) -> None:
    """Serve the echo."""
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(echo, request_deserializer=_decode, response_serializer=_encode)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("benchmark", {"echo": handler}),))
    server.add_insecure_port(address)
    await server.start()
    await until_stopped()


async def client(address: str) -> None:
    """Run the orders from stdin."""
    async with grpc.aio.insecure_channel(address) as channel:
        method = channel.unary_unary(METHOD, request_serializer=_encode, response_deserializer=_decode)

        async def call(payload: Any) -> Any:
            return await method(payload)

        await load.serve(call)


if __name__ == "__main__":
    main(client, worker)
