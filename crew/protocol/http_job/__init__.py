"""A URL job as a value: its request, its URL, and the addresses that it must not reach."""
