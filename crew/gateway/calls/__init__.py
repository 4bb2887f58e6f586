"""POST /call: run a task, and respond with its value."""
