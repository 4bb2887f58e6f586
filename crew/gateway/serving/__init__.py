"""Sockets, connections, authentication and the start and stop of the HTTP server."""
