"""URL jobs: HTTP requests that a worker makes. Only this package imports aiohttp and aiodns."""
