"""Runs handlers that are registered under paths. python worker.py --processes 2"""

import time
from collections.abc import Callable
from typing import Any

from crew.worker import Task, run

Handler = Callable[[dict[str, Any]], Any]

handlers: dict[str, Handler] = {}


class NoSuchHandler(Exception):
    """No handler is registered under this path."""


def handler(path: str) -> Callable[[Handler], Handler]:
    """Register a function of `params` under `path`."""

    def register(function: Handler) -> Handler:
        handlers[path] = function
        return function

    return register


@Task("background.handle")
def handle(request: dict[str, Any]) -> Any:
    """Run the handler that `request` names, with its params."""
    found = handlers.get(request["handler"])
    if found is None:
        raise NoSuchHandler(request["handler"])
    return found(request["params"])


@handler("/demo_api/ping")
def ping(params: dict[str, Any]) -> Any:
    return {"pong": params}


@handler("/demo_api/sleep")
def sleep(params: dict[str, Any]) -> Any:
    time.sleep(params["seconds"])
    return {"slept": params["seconds"]}


@handler("/demo_api/divide")
def divide(params: dict[str, Any]) -> Any:
    return {"quotient": params["dividend"] / params["divisor"]}


if __name__ == "__main__":
    run()
