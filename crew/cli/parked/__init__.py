"""`crew parked`: list, show, retry and delete messages that were parked."""
