"""The HTTP API of jobs: /jobs, and the HTTP Task Queue."""
