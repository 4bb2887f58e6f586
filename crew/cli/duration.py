"""Durations on a command line: 90, 15m, 12h, 7d."""

from typing import Any

import click

from crew.protocol.deadline import seconds_of


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """A number of seconds, or a number with a unit (s, m, h, d); becomes float seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = seconds_of(str(value))
        if seconds is None:
            self.fail(f"{value!r} is no duration: write 90 for seconds, or 15m, 12h, 7d", param, ctx)
        return seconds
