"""Durations on a command line: 90, 15m, 12h, 7d."""

import re
from typing import Any, Final

import click

_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """A number of seconds, or of what its unit says; arrives as float seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhd]?)", str(value))
        if match is None:
            self.fail(f"{value!r} is no duration: write 90 for seconds, or 15m, 12h, 7d", param, ctx)
        return float(match[1]) * _SECONDS[match[2]]
