"""Parts of a Tornado application that calls tasks: routes, a server, and the cancellation of abandoned calls."""

try:
    import prometheus_client  # noqa: F401  # imported to name a missing package in one sentence
    import tornado  # noqa: F401
except ImportError as error:
    raise ImportError(f'crew.gateway needs {error.name}: pip install "crew[gateway]"', name=error.name) from None

from crew.gateway.app import routes
from crew.gateway.calls.call_api import CallHandler
from crew.gateway.serving.request_scope import AbandonMixin, cancel_when_abandoned
from crew.gateway.serving.server import serve

__all__ = ["AbandonMixin", "CallHandler", "cancel_when_abandoned", "routes", "serve"]
