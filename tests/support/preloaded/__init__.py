"""Starts Python programs as forks of a process that has imported crew already, for a tenth of the CPU time."""
