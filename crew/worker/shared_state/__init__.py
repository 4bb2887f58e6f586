"""What a supervisor and its worker processes share: memory, messages, lost calls and exit codes."""
