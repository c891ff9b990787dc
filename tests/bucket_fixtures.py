"""The object stores of all tests: each test makes buckets of its own there, and none kills them."""

from collections.abc import Iterator

import pytest

from tests.buckets import S3, Azure, Gcs


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """The S3 server (versitygw)."""
    with S3() as running:
        yield running


@pytest.fixture(scope="session")
def azure() -> Iterator[Azure]:
    """The Azure server (Azurite)."""
    with Azure() as running:
        yield running


@pytest.fixture(scope="session")
def gcs() -> Iterator[Gcs]:
    """The Google Cloud Storage server (fake-gcs-server)."""
    with Gcs() as running:
        yield running
