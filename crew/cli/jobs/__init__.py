"""`crew jobs`: submit, list, show, wait for and cancel jobs."""
