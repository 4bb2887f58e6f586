"""Why an execution is interrupted."""

import enum


class Reason(enum.StrEnum):
    """Why an execution is interrupted; `Interrupt.reason` says it to the task."""

    TIMEOUT = "timeout"  # its limit, or the caller's deadline, is over
    CANCELED = "canceled"  # nobody wants its value any longer
    DRAIN = "drain"  # its worker is stopped
