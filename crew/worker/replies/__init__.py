"""Replies and retries on their way out."""
