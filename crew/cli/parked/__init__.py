"""`crew parked`: list, show, replay and purge the messages that were parked."""
