"""Kafka: where it is, who may use it, why it cannot be reached, and the clients as this project sets them."""
