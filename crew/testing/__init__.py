"""Tests of tasks and their callers without a broker: an in-memory broker, a clock per test, and a pytest plugin.

The fixtures of `crew.testing.plugin` are what a test uses: `crew_client`, `crew_worker`, `crew_gateway`, `crew_store`,
`crew_clock` and `crew_broker`. `Kit` makes the same without pytest.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crew.testing.clock import Hang
    from crew.testing.kit import Kit

__all__ = ["Hang", "Kit"]


def __getattr__(name: str) -> object:
    """Loaded when it is first asked for: pytest loads the plugin with each run."""
    if name == "Kit":
        from crew.testing.kit import Kit

        return Kit
    if name == "Hang":
        from crew.testing.clock import Hang

        return Hang
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
