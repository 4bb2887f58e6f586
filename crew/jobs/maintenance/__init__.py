"""Periodic work on the records of jobs: publish again, expire, watch, purge. Every gateway does it for all jobs."""
