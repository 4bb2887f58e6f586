"""Reports of jobs to their store (start, heartbeat, progress, end), and the list of revoked jobs from it."""
