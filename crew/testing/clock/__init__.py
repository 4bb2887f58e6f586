"""The clock of a test: time that passes only when nothing else can happen, or the real time."""

from crew.testing.clock.real_clock import RealClock
from crew.testing.clock.virtual_clock import Clock, Hang, VirtualClock

__all__ = ["Clock", "Hang", "RealClock", "VirtualClock"]
