"""What a worker reports of jobs while they run: heartbeats and progress; and which jobs are revoked."""
