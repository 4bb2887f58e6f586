"""The private RabbitMQ node that `crew broker` runs from a folder."""
