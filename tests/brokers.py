"""Real Kafka brokers for tests: their own folder and ports, quick to kill and to start again."""

import os
import secrets
import subprocess
import tempfile
from pathlib import Path
from typing import Self

import pytest

from deploy.kafka import broker
from transforms.kafka.access import Access
from transforms.kafka.clients import admin, producer

USER = "alice"


class Broker:
    """One broker. `address` takes anyone, `sasl_address` (TLS) takes `USER` by SCRAM-SHA-512 or PLAIN."""

    def __init__(self, sasl: bool = False, **settings: str) -> None:
        """`settings` are the broker's own, with underscores for dots."""
        self._scratch = tempfile.TemporaryDirectory(prefix="kafka-", ignore_cleanup_errors=True)
        self.folder = Path(self._scratch.name)
        self.password = secrets.token_hex(12)
        self._process: subprocess.Popen[bytes] | None = None
        port, sasl_port = broker.free_ports(2)
        more = {key.replace("_", "."): value for key, value in settings.items()}
        try:
            self.plan = broker.prepare(self.folder, port, sasl_port if sasl else None, USER, self.password, more)
        except broker.ToolMissing as error:
            if os.environ.get("CI") == "true":
                pytest.fail(str(error))
            pytest.skip(str(error))

    @property
    def address(self) -> str:
        return self.plan.address

    @property
    def sasl_address(self) -> str:
        assert self.plan.sasl_address
        return self.plan.sasl_address

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def access(self, mechanism: str = "SCRAM-SHA-512", password: str | None = None) -> Access:
        """Return what opens `sasl_address`."""
        return Access("SASL_SSL", mechanism, USER, password or self.password, str(self.ca))

    @property
    def client_file(self) -> Path:
        """The properties file that opens `sasl_address` by PLAIN, for labelstream and for `kcat -F`."""
        return self.folder / "client.properties"

    def start(self) -> Self:
        self._process = broker.launch(self.folder)
        return self

    def kill(self) -> None:
        """End the broker at once, as a power cut does."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Start it on the same ports with the same data."""
        self.start()

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            self.kill()
        self._scratch.cleanup()

    def create_topic(self, name: str, partitions: int = 1, **configs: str) -> str:
        """Create a topic and return its name; `configs` are its settings, with underscores for dots."""
        settings = {key.replace("_", "."): value for key, value in configs.items()}
        with admin(self.address, Access()) as client:
            topic = {"num_partitions": partitions, "replication_factor": 1, "configs": settings}
            client.create_topics({name: topic}, wait_for_metadata=True)
        return name

    def produce(self, topic: str, *values: bytes, partition: int | None = None) -> None:
        sender = producer(self.address, Access())
        sent = [sender.send(topic, value, partition=partition) for value in values]
        sender.flush(30)
        for future in sent:
            future.get(timeout=30)
        sender.close(timeout=5)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
