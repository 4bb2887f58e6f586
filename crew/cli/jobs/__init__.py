"""`crew jobs`: list, show, wait for, cancel, retry and purge jobs."""
