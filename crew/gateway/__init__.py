"""What a Tornado application that calls tasks is built with: crew's own routes, and the end of abandoned calls."""

try:
    import prometheus_client  # noqa: F401  # here only to say in one sentence what is missing
    import tornado  # noqa: F401
except ImportError as error:
    raise ImportError(f'crew.gateway needs {error.name}: pip install "crew[gateway]"', name=error.name) from None

from crew.gateway.app import routes
from crew.gateway.calls.call_api import CallHandler
from crew.gateway.serving.request_scope import AbandonMixin, cancel_when_abandoned
from crew.gateway.serving.server import serve

__all__ = ["AbandonMixin", "CallHandler", "cancel_when_abandoned", "routes", "serve"]
