"""Payloads to bodies and back: codecs, and the limits for what others have encoded."""
