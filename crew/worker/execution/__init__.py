"""One run of a task: its steps, its result, why and how it is interrupted, its line in the log."""
