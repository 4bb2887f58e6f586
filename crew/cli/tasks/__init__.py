"""`crew tasks`: show the tasks of a worker script, with their parameters."""
