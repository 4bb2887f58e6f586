"""`GET /tasks/` and `GET /tasks/<task>/`: the tasks that the gateway was given, with their JSON Schema."""

from collections.abc import Mapping
from typing import Any

import msgspec

from crew.gateway.body import HeadMixin, NoBodyMixin
from crew.gateway.calls.value_response import ValueResponseMixin
from crew.gateway.problems import ProblemMixin, RequestRefused


class TasksHandler(NoBodyMixin, HeadMixin, ValueResponseMixin, ProblemMixin):
    """Responds with a list of the tasks: `{"tasks": [{"task": ..., "arguments": ..., "result": ...}, ...]}`.

    A gateway calls any task. It describes those whose functions were given to `routes`, or to `crew gateway --tasks`.

    Args:
        tasks: name -> description, as `crew.signatures.schema.schema_of` returns it.
    """

    def initialize(self, *, tasks: Mapping[str, dict[str, Any]]) -> None:
        """Set the arguments of the route."""
        self.tasks = tasks

    def get(self) -> None:
        """Respond with the list, sorted by name."""
        self.check_query()
        self.respond_encoded(msgspec.json.encode({"tasks": list(self.tasks.values())}))


class TaskHandler(TasksHandler):
    """Responds with one task of that list."""

    def get(self, name: str) -> None:  # type: ignore[override]
        """Respond with the task; 404 if it is not among them."""
        self.check_query()
        if name not in self.tasks:
            detail = f"this gateway has no description of task {name[:80]!r}; it may exist: see `crew gateway --tasks`"
            raise RequestRefused(404, detail, name="unknown-task")
        self.respond_encoded(msgspec.json.encode(self.tasks[name]))
