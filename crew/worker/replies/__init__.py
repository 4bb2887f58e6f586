"""Publishers of replies and retries."""
