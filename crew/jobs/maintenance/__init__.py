"""Periodic work on the records of jobs: publish again, expire, purge, watch. Every gateway does it for all jobs."""
