"""Messages between client, broker and worker: plain values and pure functions, no I/O."""
