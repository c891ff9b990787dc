"""A bucket of the tests' S3 server, as this process sees it by its environment."""

import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from tests.buckets import S3
from transforms.buckets import objects
from transforms.buckets.stores import forget_stores


@dataclass(frozen=True)
class Stored:
    """An own bucket; keys go to the server as they are."""

    name: str
    client: Any

    @property
    def uri(self) -> str:
        return f"s3://{self.name}"

    def put(self, key: str, data: bytes | None = None) -> str:
        """Write an object, with its name for content unless told otherwise; return its uri."""
        self.client.put_object(Bucket=self.name, Key=key, Body=key.encode() if data is None else data)
        return f"{self.uri}/{key}"

    def put_all(self, keys: Iterable[str]) -> None:
        """Write objects, with their names for content."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: objects.put(f"{self.uri}/{key}", key.encode()), keys))

    def put_folder(self, folder: Path, prefix: str = "") -> None:
        """Write a folder's files."""
        files = [path for path in folder.rglob("*") if path.is_file()]
        with ThreadPoolExecutor(8) as pool:
            names = (prefix + path.relative_to(folder).as_posix() for path in files)
            list(pool.map(lambda name, path: objects.put(f"{self.uri}/{name}", path.read_bytes()), names, files))

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)


def use(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process use the store of `env`, and have little patience with it."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    forget_stores()


def new_bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Stored:
    """Return an empty bucket, which this process can use."""
    use(s3.env, monkeypatch)
    session = botocore.session.Session()
    client = session.create_client("s3", endpoint_url=s3.env["AWS_ENDPOINT_URL"], region_name="us-east-1")
    return Stored(s3.make_bucket(f"in-{uuid.uuid4().hex[:12]}"), client)
