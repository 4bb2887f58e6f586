"""The connection: pika's connection and channel, frames, content headers, liveness."""
