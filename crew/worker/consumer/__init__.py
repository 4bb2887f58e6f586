"""Consumption of deliveries: admission, prefetch, flow control, revoked calls, and settlement (reply, ack, requeue)."""
