"""Bytes in and out of a bucket: whole or not at all, one winner of many writers, whatever the network does."""

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.errors import ItemError
from tests.buckets import S3, Azure, Gcs
from tests.fault_proxy import FaultProxy, Kind
from tests.stored import Stored, new_bucket, use
from transforms.buckets import objects, stores
from transforms.storage import opened, read_bytes, read_head, sha256_of

ROUNDS = 8
WRITERS = 4


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Stored:
    return new_bucket(s3, monkeypatch)


@pytest.fixture(params=["s3", "az", "gs"])
def anywhere(request: pytest.FixtureRequest, s3: S3, azure: Azure, gcs: Gcs, monkeypatch: pytest.MonkeyPatch) -> str:
    """The uri of a bucket of each kind."""
    server = {"s3": s3, "az": azure, "gs": gcs}[request.param]
    use(server.env, monkeypatch)
    return f"{request.param}://{server.make_bucket(f'o-{os.urandom(6).hex()}')}"


def test_what_is_put_is_read_again(anywhere: str) -> None:
    """In every store: whole, in part, beyond its end, as a file; a missing one, and one that was removed."""
    uri = f"{anywhere}/a/b c.bin"
    objects.put(uri, b"0123456789")
    assert read_bytes(uri, 10) == b"0123456789"
    assert objects.read(uri, (8, 5), lambda size: None) == b"89"
    assert objects.read(uri, (10, 5), lambda size: None) == b""
    assert read_head(uri, 3) == b"012"
    assert [(entry.key, entry.size) for page in objects.walk(anywhere) for entry in page] == [("a/b c.bin", 10)]
    with opened(uri) as file:
        file.seek(4)
        assert file.read() == b"456789"
    objects.remove(uri)
    objects.remove(uri)
    with pytest.raises(ItemError) as caught:
        read_bytes(uri, 10)
    assert caught.value.error == "not_found"


def test_an_empty_object_is_empty(anywhere: str) -> None:
    objects.put(f"{anywhere}/empty", b"")
    assert read_bytes(f"{anywhere}/empty", 1) == b"" == read_head(f"{anywhere}/empty", 9)
    with opened(f"{anywhere}/empty") as file:
        assert file.read() == b""


def test_a_limit_stops_before_the_bytes_come(bucket: Stored, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = bucket.put("large", bytes(3 << 20))
    with FaultProxy(s3.port) as proxy:
        use({"AWS_ENDPOINT_URL": proxy.address}, monkeypatch)
        with pytest.raises(ItemError) as caught:
            read_bytes(uri, 1 << 20)
        assert caught.value.error == "too_large"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(0, 3000),
    jumps=st.lists(st.tuples(st.integers(0, 3200), st.integers(-1, 1200)), max_size=8),
)
def test_a_file_over_an_object_reads_as_any_file(
    bucket: Stored, monkeypatch: pytest.MonkeyPatch, size: int, jumps: list[tuple[int, int]]
) -> None:
    """Whatever is jumped to and read, in parts smaller than the object."""
    monkeypatch.setattr(objects, "_FIRST_PART", 64)
    monkeypatch.setattr(objects, "_LARGEST_PART", 256)
    data = os.urandom(size)
    uri = bucket.put("file", data)
    with opened(uri) as file, io.BytesIO(data) as like:
        for offset, count in jumps:
            assert file.seek(offset) == like.seek(offset)
            assert file.read(count) == like.read(count)
            assert file.tell() == like.tell()


def test_a_file_never_holds_two_contents(bucket: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that is replaced while it is read is told of, not mixed."""
    monkeypatch.setattr(objects, "_FIRST_PART", 1000)
    uri = bucket.put("a.mp4", b"1" * 10_000)
    with pytest.raises(ItemError) as caught, opened(uri) as file:
        file.read(10)
        bucket.put("a.mp4", b"2" * 10_000)
        file.read()
    assert caught.value.error == "changed"


# ---- one winner


def race(write: Callable[[int], bool]) -> list[int]:
    """Return which of the writers, begun at the same moment, say that they have written."""
    gate = threading.Barrier(WRITERS)

    def one(number: int) -> bool:
        gate.wait()
        return write(number)

    with ThreadPoolExecutor(WRITERS) as pool:
        return [number for number, won in enumerate(pool.map(one, range(WRITERS))) if won]


def disturb(proxy: FaultProxy) -> None:
    """Let every third write be done and not answered, every seventh broken before, and some refused."""
    proxy.fault("lost", "^PUT ", every=3)
    proxy.fault("reset", "^PUT ", every=7)
    proxy.fault(503, "^PUT ", every=11)
    proxy.fault("lost", "^GET ", every=13)


def mark_of(uri: str) -> str:
    found = objects.marked(uri)
    assert found and found.mark
    return found.mark


def race_create(where: str, rounds: int) -> None:
    """Let writers race for new names; raise AssertionError unless each has one winner, whose bytes are stored."""
    for number in range(rounds):
        uri = f"{where}/commit-{number}"
        won = race(lambda writer, uri=uri: objects.create(uri, b"writer %d" % writer))
        assert len(won) == 1, (number, won)
        assert objects.read(uri, None, lambda size: None) == b"writer %d" % won[0]


def race_replace(where: str, rounds: int) -> None:
    """Let writers race to replace what all of them have seen."""
    uri = f"{where}/swapped"
    objects.put(uri, b"first")
    for number in range(rounds):
        mark = mark_of(uri)
        won: dict[int, str | None] = {}

        def swap(writer: int, number: int = number, mark: str = mark, won: dict[int, str | None] = won) -> bool:
            won[writer] = objects.replace(uri, b"round %d writer %d" % (number, writer), mark)
            return won[writer] is not None

        [winner] = race(swap)
        assert objects.read(uri, None, lambda size: None) == b"round %d writer %d" % (number, winner)
        assert mark_of(uri) == won[winner]


@pytest.mark.parametrize("racing", [race_create, race_replace])
def test_of_many_writers_one_wins(racing: Callable[[str, int], None], anywhere: str) -> None:
    racing(anywhere, ROUNDS)


@pytest.mark.parametrize("racing", [race_create, race_replace])
def test_of_many_writers_one_wins_though_answers_are_lost(
    racing: Callable[[str, int], None], bucket: Stored, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer whose answer is lost finds out; one that was refused because of itself has won."""
    with FaultProxy(s3.port) as proxy:
        use({"AWS_ENDPOINT_URL": proxy.address}, monkeypatch)
        disturb(proxy)
        racing(bucket.uri, ROUNDS)
        assert {"lost", "reset"} <= {request.fault for request in proxy.log}


def test_a_winner_whose_name_was_taken_meanwhile_gets_its_own_mark(
    bucket: Stored, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer was lost, and another wrote behind it: the mark of that one is never taken for its own."""
    uri = bucket.put("lock", b"nobody")
    mark = mark_of(uri)
    with FaultProxy(s3.port) as proxy:
        use({"AWS_ENDPOINT_URL": proxy.address}, monkeypatch)
        proxy.fault("lost", "^PUT ", count=1)
        proxy.before(lambda: bucket.put("lock", b"other"), "^HEAD ")
        mine = objects.replace(uri, b"mine", mark)
        assert mine is not None and not [one for one in proxy.log if one.method == "HEAD"]
        bucket.put("lock", b"other")
        assert objects.replace(uri, b"mine again", mine) is None
        assert read_bytes(uri, 10) == b"other"


def test_an_object_that_went_is_not_replaced(bucket: Stored) -> None:
    uri = bucket.put("lock")
    mark = mark_of(uri)
    bucket.delete("lock")
    assert objects.replace(uri, b"mine", mark) is None


# ---- troubles that pass


@pytest.mark.parametrize("kind", [503, 429, 500, "reset", "lost", "truncate"])
def test_what_passes_is_waited_for(bucket: Stored, s3: S3, monkeypatch: pytest.MonkeyPatch, kind: Kind) -> None:
    """Two in a row, whatever is asked: the answer is that of a quiet day."""
    data = os.urandom(300_000)
    uri = bucket.put("d/a", data)
    with FaultProxy(s3.port) as proxy:
        use({"AWS_ENDPOINT_URL": proxy.address}, monkeypatch)

        def disturbed(ask: Callable[[], object]) -> object:
            proxy.clear()
            rule = proxy.fault(kind, count=2)
            answer = ask()
            assert rule.struck or kind == "truncate"
            return answer

        assert disturbed(lambda: read_bytes(uri, 300_000)) == data
        assert disturbed(lambda: objects.read(uri, (100, 200_000), lambda size: None)) == data[100:200_100]
        assert disturbed(lambda: read_head(uri, 9)) == data[:9]
        assert disturbed(lambda: b"".join(objects.blocks(uri))) == data
        assert disturbed(lambda: sha256_of(uri)) == sha256_of(uri)
        assert disturbed(lambda: objects.head(uri).size) == 300_000
        assert disturbed(lambda: whole(uri)) == data
        assert disturbed(lambda: [entry.key for page in objects.walk(bucket.uri) for entry in page]) == ["d/a"]
        assert disturbed(lambda: objects.level(bucket.uri)) == ([], ["d"])
        assert disturbed(lambda: objects.create(f"{bucket.uri}/new", b"mine")) is True
        assert disturbed(lambda: objects.create(f"{bucket.uri}/new", b"other")) is False
        disturbed(lambda: objects.put(f"{bucket.uri}/put", data))
        disturbed(lambda: objects.put_file(f"{bucket.uri}/file", io.BytesIO(data)))
        disturbed(lambda: objects.remove(uri))
        proxy.clear()
        assert read_bytes(f"{bucket.uri}/new", 9) == b"mine"
        assert read_bytes(f"{bucket.uri}/put", 300_000) == data == read_bytes(f"{bucket.uri}/file", 300_000)
        assert not objects.is_there(f"{bucket.uri}/d")


def whole(uri: str) -> bytes:
    with opened(uri) as file:
        return file.read()


def test_a_listing_of_many_pages_survives_a_cut_in_the_middle(
    bucket: Stored, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing twice, nothing left out."""
    names = [f"d/{number:04d}" for number in range(2300)]
    for name in names:
        path = s3.folder / "data" / bucket.name / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    with FaultProxy(s3.port) as proxy:
        use({"AWS_ENDPOINT_URL": proxy.address}, monkeypatch)
        cuts = [proxy.fault(kind, r"^GET .*list-type", every=every) for kind, every in (("truncate", 2), ("reset", 3))]
        found = [entry.key for page in objects.walk(f"{bucket.uri}/d") for entry in page]
    assert found == names
    assert all(cut.struck for cut in cuts)


# ---- processes


def test_a_forked_process_is_told_instead_of_hanging(bucket: Stored) -> None:
    """The client library would wait for ever for threads that were not forked with it."""
    uri = bucket.put("a")
    code = (
        "import os, sys\nfrom schemas.errors import RunError\nfrom transforms.buckets import objects\n"
        "objects.head(sys.argv[1])\nchild = os.fork()\nif child == 0:\n    try:\n        objects.head(sys.argv[1])\n"
        "    except RunError as error:\n        print(error)\n    os._exit(0)\nos.waitpid(child, 0)\n"
    )
    words = [sys.executable, "-c", code, uri]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    assert "was forked from one that used an object store" in done.stdout


ROOT = Path(__file__).parents[3]


def test_credentials_are_never_pickled(bucket: Stored) -> None:
    """Neither by a pipeline's graph nor by anything else."""
    import pickle

    import cloudpickle

    settings_of = stores.s3_settings()
    for dump in (pickle.dumps, cloudpickle.dumps):
        with pytest.raises(TypeError, match="credentials are not pickled"):
            dump(stores._Credentials(settings_of.session))


def test_a_first_look_survives_a_cut_answer(bucket: Stored, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultProxy(s3.port) as proxy:
        use({"AWS_ENDPOINT_URL": proxy.address}, monkeypatch)
        rule = proxy.fault("truncate", "list-type", count=2)
        objects.require_bucket(f"{bucket.uri}/in")
        assert rule.struck == 2
