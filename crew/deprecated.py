"""Warnings about deprecated names."""

import sys
import warnings


def warn_deprecated(sentence: str) -> None:
    """Issue a DeprecationWarning for the line outside of crew that made the call."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "crew":
        level, frame = level + 1, frame.f_back
    warnings.warn(sentence, DeprecationWarning, stacklevel=level)
