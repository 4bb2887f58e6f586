"""Tests in three strata: unit (no broker), integration (real RabbitMQ), acceptance (real processes, from outside)."""
