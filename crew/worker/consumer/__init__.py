"""Deliveries in: admission, prefetch, flow control, revoked calls, and how deliveries are settled."""
