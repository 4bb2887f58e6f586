"""Supervisor: the parent process that forks, watches, replaces and reloads worker processes."""
