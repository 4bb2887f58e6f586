"""What an administrator does with the queues of tasks: migrate them, and handle parked messages."""
