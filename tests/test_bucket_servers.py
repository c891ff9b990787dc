"""The object stores of the tests, the command that gives a person one, and the proxy before them: by obstore."""

import os
import socket
import stat
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore import store as stores

from deploy.buckets import server
from tests.buckets import S3, Azure, Gcs
from tests.fault_proxy import FaultProxy

COMMAND = [sys.executable, str(Path(__file__).parents[1] / "deploy" / "buckets" / "server.py")]
NO_RETRIES: Any = {"max_retries": 0}
BODY = bytes(range(256)) * 400


@pytest.fixture(params=["s3", "azure", "gcs"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty bucket of each kind, opened with nothing but its name and the environment."""
    running: S3 | Azure | Gcs = request.getfixturevalue(request.param)
    for name, value in running.env.items():
        monkeypatch.setenv(name, value)
    kind = {"s3": stores.S3Store, "azure": stores.AzureStore, "gcs": stores.GCSStore}[request.param]
    return kind(running.make_bucket(new_name()), retry_config=NO_RETRIES)


@pytest.fixture
def proxy(s3: S3) -> Iterator[FaultProxy]:
    with FaultProxy(s3.port) as running:
        yield running


@pytest.fixture
def direct(s3: S3) -> Any:
    return bucket(s3.env, s3.make_bucket(new_name()))


@pytest.fixture
def through(s3: S3, proxy: FaultProxy, direct: Any) -> Any:
    """The bucket of `direct`, seen through the proxy; nothing is tried twice."""
    return bucket(s3.env | {"AWS_ENDPOINT_URL": proxy.address}, direct.config["bucket"])


def new_name() -> str:
    return f"b-{uuid.uuid4().hex[:12]}"


def bucket(env: dict[str, str], name: str, **options: Any) -> Any:
    config: Any = {key.lower(): value for key, value in env.items() if key != "AWS_ALLOW_HTTP"}
    options = {"retry_config": NO_RETRIES, "client_options": {"allow_http": True}, **options}
    return stores.S3Store(name, config=config, **options)


def put(store: Any, key: str, body: bytes, **more: Any) -> None:
    store.put(key, body, use_multipart=False, **more)


def get(store: Any, key: str) -> bytes:
    return bytes(store.get(key).bytes())


def keys(store: Any) -> list[str]:
    return [found["path"] for chunk in store.list() for found in chunk]


def command(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    # The user's cache has the server; the tests' own one is empty.
    env = {**os.environ, "XDG_CACHE_HOME": str(server.CACHE.parent), **env}
    return subprocess.run([*COMMAND, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False)


# ---- the servers


def test_each_server_keeps_what_it_is_given(store: Any) -> None:
    """Put, get, a range, a list and a delete, with a key that wants quoting."""
    key = "a folder/x+y & ü=%41.bin"
    put(store, key, BODY)
    assert get(store, key) == BODY
    assert bytes(store.get_range(key, start=1000, end=1100)) == BODY[1000:1100]
    assert keys(store) == [key]
    store.delete(key)
    assert keys(store) == []
    with pytest.raises(FileNotFoundError):
        get(store, key)


def test_of_writers_that_race_one_creates(store: Any) -> None:
    """In each of 20 rounds one of 4 threads makes the object, and its bytes are what is stored."""
    with ThreadPoolExecutor(4) as pool:
        for number in range(20):
            barrier = threading.Barrier(4)

            def write(me: int, key: str = f"claims/{number}", start: threading.Barrier = barrier) -> int | None:
                start.wait()
                try:
                    put(store, key, bytes([me]) * 1000, mode="create")
                except obstore.exceptions.AlreadyExistsError:
                    return None
                return me

            winners = [me for me in pool.map(write, range(4)) if me is not None]
            assert len(winners) == 1
            assert get(store, f"claims/{number}") == bytes(winners) * 1000


def test_a_stale_swap_is_refused(store: Any) -> None:
    """An object is replaced by the one who names its state, and by nobody who names an older one."""
    made = store.put("state", b"1", use_multipart=False)
    first = {name: value for name, value in made.items() if value}
    put(store, "state", b"2", mode=first)
    with pytest.raises(obstore.exceptions.PreconditionError):
        put(store, "state", b"3", mode=first)
    assert get(store, "state") == b"2"


def test_a_killed_server_keeps_what_it_acknowledged() -> None:
    """After SIGKILL in the midst of writes and a new start each acknowledged object is whole, and no other is torn."""
    with S3() as own:
        opened = bucket(own.env, own.make_bucket("raw"))
        acknowledged: list[str] = []

        def write(writer: int) -> None:
            for number in range(10_000):
                key = f"{writer}/{number}"
                try:
                    put(opened, key, key.encode() * 5000)
                except obstore.exceptions.BaseError:
                    return
                acknowledged.append(key)

        writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for writer in writers:
            writer.start()
        while len(acknowledged) < 100:
            time.sleep(0.01)
        own.kill()
        for writer in writers:
            writer.join()
        own.start()
        opened = bucket(own.env, "raw")
        there = keys(opened)
        assert set(acknowledged) <= set(there)
        assert all(get(opened, key) == key.encode() * 5000 for key in there)


def test_a_user_sees_what_it_may(s3: S3, direct: Any) -> None:
    """One without rights is refused; one that may read cannot write; an unknown one is refused."""
    name = direct.config["bucket"]
    put(direct, "k", BODY)
    reader, nobody = s3.user(f"r{name}", reads=name), s3.user(f"n{name}")
    assert get(bucket(reader, name), "k") == BODY
    assert keys(bucket(reader, name)) == ["k"]
    for env in (nobody, {**nobody, "AWS_ACCESS_KEY_ID": "unknown"}, {**nobody, "AWS_SECRET_ACCESS_KEY": "wrong"}):
        with pytest.raises(obstore.exceptions.PermissionDeniedError):
            get(bucket(env, name), "k")
    for env in (reader, nobody):
        with pytest.raises(obstore.exceptions.PermissionDeniedError):
            put(bucket(env, name), "k", b"other")


# ---- the command


def test_the_command_starts_a_server_once_and_stops_it(tmp_path: Path) -> None:
    """What it prints opens the buckets; a second start changes nothing; the keys outlive a stop."""
    (port,), folder = server.free_ports(1), tmp_path / "a folder"
    start = ["start", "--dir", str(folder), "--port", str(port), "--buckets", "raw,labelled"]
    try:
        first = command(*start)
        assert first.returncode == 0, first.stderr
        assert first.stdout == (folder / "env").read_text()
        env = dict(line.removeprefix("export ").split("=", 1) for line in first.stdout.splitlines())
        put(bucket(env, "raw"), "k", BODY)
        assert stat.S_IMODE((folder / "env").stat().st_mode) == 0o600
        shown = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        assert str(folder / "data") in shown
        assert env["AWS_SECRET_ACCESS_KEY"] not in shown

        again = command("start", "--dir", str(folder), "--buckets", "raw")
        assert "already running" in again.stderr
        assert again.stdout == first.stdout
        assert command("status", "--dir", str(folder)).stdout == first.stdout
        taken = command("start", "--dir", str(tmp_path / "other"), "--port", str(port))
        assert (taken.returncode, f"port {port} of 127.0.0.1 is taken" in taken.stderr) == (1, True)

        assert "was stopped" in command("stop", "--dir", str(folder)).stderr
        assert command("status", "--dir", str(folder)).returncode == 1
        assert command(*start).stdout == first.stdout
        assert get(bucket(env, "raw"), "k") == BODY
    finally:
        server.stop(folder)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"PATH": ""}, "Go 1.25 or newer is needed to build versitygw, and no go was found"),
        ({"PATH": "old"}, "old/go is go1.19.8"),
        ({"PATH": "local"}, "local/go is go1.24.1"),
        ({"VERSITYGW": "old/go"}, "which is no versitygw v1.8.0 or newer"),
    ],
)
def test_a_missing_tool_is_named(tmp_path: Path, env: dict[str, str], said: str) -> None:
    """Without a Go that can build the server the command says which one is needed, and what came."""
    for name, version in (("old", "go1.19.8"), ("local", "go1.24.1")):
        tool = tmp_path / name / "go"
        tool.parent.mkdir()
        tool.write_text(f'#!/bin/sh\nprintf "{version}\\n{name}\\n"\n')
        tool.chmod(0o755)
    env = {key: str(tmp_path / value) if value else value for key, value in env.items()}
    away = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    (port,) = server.free_ports(1)
    done = command("start", "--dir", str(tmp_path / "s3"), "--port", str(port), **away, **env)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_name_of_a_bucket_is_refused(tmp_path: Path) -> None:
    """It says what a name is, before anything is started."""
    done = command("start", "--dir", str(tmp_path / "s3"), "--buckets", "raw,Not_One")
    assert (done.returncode, "not 'Not_One'" in done.stderr) == (1, True)
    assert not (tmp_path / "s3").exists()


# ---- the proxy


def test_the_proxy_changes_nothing_by_itself(proxy: FaultProxy, direct: Any, through: Any) -> None:
    """What goes through it is what came, large or empty, and the log has it."""
    large = BODY * 400
    for key, body in (("small", BODY), ("empty", b""), ("large", large)):
        put(through, key, body)
        assert get(direct, key) == get(through, key) == body
    assert sorted(keys(through)) == ["empty", "large", "small"]
    assert bytes(through.get_range("large", start=5, end=9)) == large[5:9]
    with pytest.raises(FileNotFoundError):
        through.head("missing")
    last = proxy.log[-2]
    name = direct.config["bucket"]
    assert (last.method, last.path, last.range) == ("GET", f"/{name}/large", "bytes=5-8")
    assert (last.status, last.sent_bytes, last.fault) == (206, 4, None)
    assert (proxy.log[-1].method, proxy.log[-1].status, proxy.log[-1].sent_bytes) == ("HEAD", 404, 0)


@pytest.mark.parametrize(
    ("status", "said", "error"),
    [
        (503, "SlowDown", obstore.exceptions.GenericError),
        (429, "TooManyRequests", obstore.exceptions.GenericError),
        (500, "InternalError", obstore.exceptions.GenericError),
        (403, "ExpiredToken", obstore.exceptions.PermissionDeniedError),
    ],
)
def test_a_status_is_told_instead_of_the_answer(
    proxy: FaultProxy, direct: Any, through: Any, status: int, said: str, error: type[Exception]
) -> None:
    """The client hears S3's words, and the server does not hear the request."""
    proxy.fault(status, r"^PUT .*/k", count=1)
    with pytest.raises(error, match=said):
        put(through, "k", BODY)
    assert keys(direct) == []
    put(through, "k", BODY)
    assert [(seen.status, seen.fault) for seen in proxy.log] == [(status, status), (200, None)]


def test_a_reset_loses_the_request_and_lost_only_its_answer(proxy: FaultProxy, direct: Any, through: Any) -> None:
    """Both look the same to the writer; the object is there after the second alone."""
    for kind, there in (("reset", []), ("lost", ["k"])):
        proxy.fault(kind, "^PUT ", count=1)  # type: ignore[arg-type]
        with pytest.raises(obstore.exceptions.GenericError):
            put(through, "k", BODY, mode="create")
        assert keys(direct) == there
    assert [(seen.status, seen.fault) for seen in proxy.log] == [(None, "reset"), (None, "lost")]


def test_a_reset_is_one(proxy: FaultProxy) -> None:
    """The client's connection ends with an error, not with an end of file."""
    proxy.fault("reset")
    with socket.create_connection((server.HOST, proxy.port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_body_is_cut_in_the_middle(s3: S3, proxy: FaultProxy, direct: Any, through: Any) -> None:
    """The client has half of it; one that tries again goes on from there."""
    put(direct, "k", BODY)
    proxy.fault("truncate", "^GET ", count=1)
    with pytest.raises(obstore.exceptions.BaseError):
        get(through, "k")
    assert (proxy.log[0].status, proxy.log[0].sent_bytes) == (200, len(BODY) // 2)
    proxy.fault("truncate", "^GET ", count=1)
    patient = bucket(s3.env | {"AWS_ENDPOINT_URL": proxy.address}, direct.config["bucket"], retry_config=None)
    assert get(patient, "k") == BODY
    assert proxy.log[-1].range.startswith("bytes=")


def test_what_hangs_goes_on_when_it_is_released(s3: S3, proxy: FaultProxy, direct: Any, through: Any) -> None:
    """Before that the client waits; a client that does not wait gives up."""
    put(direct, "k", BODY)
    proxy.fault("hang", "^GET ", count=2)
    hurried = {"allow_http": True, "timeout": timedelta(seconds=0.2)}
    hasty = bucket(s3.env | {"AWS_ENDPOINT_URL": proxy.address}, direct.config["bucket"], client_options=hurried)
    with pytest.raises(obstore.exceptions.GenericError):
        get(hasty, "k")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(get, through, "k")
        time.sleep(0.2)
        assert not waiting.done()
        proxy.release()
        assert waiting.result(10) == BODY


def test_a_fault_strikes_every_nth_time_and_for_so_long(proxy: FaultProxy, through: Any) -> None:
    """Of six writes each third one fails; for half a second all fail, then none."""

    def works(key: str) -> bool:
        try:
            put(through, key, b"x")
        except obstore.exceptions.GenericError:
            return False
        return True

    rule = proxy.fault(503, every=3)
    assert [works(f"{number}") for number in range(6)] == [True, True, False, True, True, False]
    assert rule.struck == 2
    proxy.clear()
    proxy.fault(503, seconds=0.5)
    assert not works("k")
    time.sleep(0.5)
    assert works("k")


def test_something_happens_between_two_requests(proxy: FaultProxy, direct: Any, through: Any) -> None:
    """A call before the second GET replaces all objects, between the listing and the reading of the second."""

    def write(body: bytes) -> None:
        for key in ("a", "b"):
            put(direct, key, body)

    write(b"old")
    proxy.before(lambda: write(b"new"), r"^GET /[^/]+/[ab]$", nth=2)
    assert [get(through, key) for key in keys(through)] == [b"old", b"new"]


def test_a_delay_is_added_to_each_request(proxy: FaultProxy, direct: Any, through: Any) -> None:
    """Ten requests of 30 ms in a row take 0.3 s; at once they do not."""

    def took(do: Callable[[], object]) -> float:
        begun = time.monotonic()
        do()
        return time.monotonic() - begun

    put(direct, "k", BODY)
    proxy.delay_ms = 30
    assert took(lambda: [get(through, "k") for _ in range(10)]) >= 0.3
    with ThreadPoolExecutor(10) as pool:
        assert took(lambda: list(pool.map(lambda _: get(through, "k"), range(30)))) < 0.9
    assert proxy.most_at_once > 3


def test_a_proxy_before_a_killed_server_breaks_connections_until_it_is_back() -> None:
    """As the server itself would; once it is back the same client goes on, its old connections too."""
    with S3() as own, FaultProxy(own.port) as proxy:
        opened = bucket(own.env | {"AWS_ENDPOINT_URL": proxy.address}, own.make_bucket("raw"))
        put(opened, "k", BODY)
        own.kill()
        own.start()
        assert get(opened, "k") == BODY
        own.kill()
        with pytest.raises(obstore.exceptions.GenericError):
            get(opened, "k")
        own.start()
        assert get(opened, "k") == BODY
