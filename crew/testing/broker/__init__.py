"""In-memory broker: the rules of RabbitMQ that crew relies on (`broker.py`, without I/O), served by `server.py`."""
