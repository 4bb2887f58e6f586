"""Publish/subscribe: the topics and subscriptions of a client."""
