"""Parquet files in a bucket: read like local ones, fetched once, never written over."""

import io
import threading
from pathlib import Path

import polars as pl
import pytest

from schemas.errors import RunError
from tests.buckets import S3
from tests.fault_proxy import FaultProxy
from tests.stored import Stored, new_bucket, use
from transforms.shards import local_copies, scan_shards, shard_rows, shard_schema, write_shard_file


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Stored:
    return new_bucket(s3, monkeypatch)


def parquet(*rows: int) -> bytes:
    file = io.BytesIO()
    pl.DataFrame({"n": rows}, schema={"n": pl.Int64}).write_parquet(file)
    return file.getvalue()


def test_rows_keep_their_order_and_know_their_file(bucket: Stored, tmp_path: Path) -> None:
    """Local files and those in a bucket, by the names under which they were asked for."""
    (tmp_path / "c.parquet").write_bytes(parquet(5))
    names = [bucket.put("t/b.parquet", parquet(1, 2)), bucket.put("t/a.parquet", parquet(3))]
    names.append(str(tmp_path / "c.parquet"))
    rows = scan_shards(names, "path").collect()
    assert rows.rows() == [(1, names[0]), (2, names[0]), (3, names[1]), (5, names[2])]
    assert scan_shards(names).collect()["n"].to_list() == [1, 2, 3, 5]
    assert shard_rows(names[0]) == 2
    assert shard_schema(names[1]).names == ["n"]
    assert local_copies(names[2:]) == names[2:]


def test_a_file_is_fetched_once_a_process(bucket: Stored, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [bucket.put(f"t/{number}.parquet", parquet(number)) for number in range(5)]
    with FaultProxy(s3.port) as proxy:
        use({"AWS_ENDPOINT_URL": proxy.address}, monkeypatch)
        for _ in range(3):
            assert scan_shards(names).collect().height == 5
            assert shard_rows(names[0]) == 1
        assert len(proxy.log) == 5


@pytest.mark.parametrize("kind", ["truncate", "reset", 503])
def test_a_file_is_fetched_whole(bucket: Stored, s3: S3, monkeypatch: pytest.MonkeyPatch, kind: int) -> None:
    """Whatever happens on the way."""
    name = bucket.put("t/a.parquet", parquet(*range(200_000)))
    with FaultProxy(s3.port) as proxy:
        use({"AWS_ENDPOINT_URL": proxy.address}, monkeypatch)
        rule = proxy.fault(kind, "^GET ", count=2)
        assert scan_shards([name]).select(pl.col("n").sum()).collect().item() == sum(range(200_000))
        assert rule.struck == 2


def test_a_file_that_is_missing_is_told(bucket: Stored) -> None:
    with pytest.raises(RunError, match=f"{bucket.uri}/t/a.parquet is missing: restore it"):
        scan_shards([f"{bucket.uri}/t/a.parquet"])


def test_a_shard_is_never_written_over(bucket: Stored, tmp_path: Path) -> None:
    """The same bytes may come again, as from a replay; other ones are those of another run. A folder has its lock."""
    name = f"{bucket.uri}/t/a.parquet"
    write_shard_file(name, parquet(1))
    write_shard_file(name, parquet(1))
    assert shard_rows(name) == 1
    with pytest.raises(RunError, match=r"written by another run with other content.*What is committed is unharmed"):
        write_shard_file(name, parquet(1, 2))
    assert shard_rows(name) == 1
    for rows in ((1,), (1, 2)):
        write_shard_file(str(tmp_path / "a.parquet"), parquet(*rows))
    assert shard_rows(tmp_path / "a.parquet") == 2


def test_of_many_that_write_one_shard_one_content_stands(bucket: Stored) -> None:
    name = f"{bucket.uri}/t/a.parquet"
    wrote, refused = [], []

    def write(number: int) -> None:
        try:
            write_shard_file(name, parquet(number))
            wrote.append(number)
        except RunError:
            refused.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(wrote), len(refused)) == (1, 5)
    assert scan_shards([name]).collect()["n"].to_list() == wrote
