"""A connection for one command: browse, move and count messages."""
