"""`crew dev`: broker, workers and gateway in one terminal."""
