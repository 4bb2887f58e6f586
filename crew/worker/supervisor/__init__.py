"""The parent of the worker processes: it forks, watches, replaces and reloads them."""
