"""Reports about jobs: what workers send, what the gateway takes from the queue, and what it refuses."""
