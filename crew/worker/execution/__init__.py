"""One run of a task: its states, its result, and why and how it is interrupted."""
