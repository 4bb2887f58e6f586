"""Calls that tasks make."""
