"""One call from its publish to its reply, and all calls of a client that are in flight."""
