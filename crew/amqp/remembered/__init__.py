"""Declarations and consumers that are repeated on every new connection."""
