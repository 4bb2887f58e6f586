"""Publishers of replies and retries, and the backlog of replies while the broker is away."""
