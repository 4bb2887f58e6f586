"""Outbox: publishes messages until the broker has taken them; one mechanism, with a policy for each kind of message."""
