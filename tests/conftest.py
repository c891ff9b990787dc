"""Fixtures that all tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.bucket_fixtures import azure, gcs, s3

__all__ = ["azure", "gcs", "s3"]  # fixtures


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the repository; without it a test is skipped, in CI it fails."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        reason = f"the real data is not there: {folder}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _weights_beside(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Take weights from the folder beside the repository if no other is named; keep out of the user's cache."""
    near = Path(__file__).resolve().parents[2] / "shared" / "models"
    if near.is_dir():
        os.environ.setdefault("LABELSTREAM_MODELS", str(near))
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """The Kafka broker of all tests; each test makes topics of its own there, and none kills it.

    As many brokers do, it makes a topic that a client asks for: ours must not ask.
    """
    with Broker(sasl=True, auto_create_topics_enable="true") as running:
        yield running
