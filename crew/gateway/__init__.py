"""What a Tornado application that calls tasks is built with: give up calls whose HTTP client has gone."""

try:
    import prometheus_client  # noqa: F401  # here only to say in one sentence what is missing
    import tornado  # noqa: F401
except ImportError as error:
    raise ImportError(f'crew.gateway needs {error.name}: pip install "crew[gateway]"', name=error.name) from None

from crew.gateway.abandon import AbandonMixin, cancel_when_abandoned

__all__ = ["AbandonMixin", "cancel_when_abandoned"]
