"""The lock of a data set in a bucket: one holder, and none for ever."""

import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines import lease as leases
from pipelines.epochs import one_writer
from pipelines.lease import Lease
from schemas.errors import RunError, UsageError
from schemas.layout import TEMPORARY
from tests.buckets import S3
from tests.fault_proxy import FaultProxy, Kind
from tests.stored import Stored, new_bucket, use
from tests.transforms.buckets.test_faults import impatient
from transforms.buckets import objects
from transforms.places import Prefix

ROOT = Path(__file__).parents[2]
RENEW_S, LAPSE_S = 0.2, 1.2
ELSEWHERE = "process 77, on far, run 0123\nmachine other-machine:pid:[1], renewed {} times\n"


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Stored:
    monkeypatch.setattr(leases, "RENEW_S", RENEW_S)
    monkeypatch.setattr(leases, "LAPSE_S", LAPSE_S)
    monkeypatch.setattr(leases, "_LOOK_S", 0.05)
    return new_bucket(s3, monkeypatch)


@pytest.fixture
def out(bucket: Stored) -> Prefix:
    return Prefix(f"{bucket.uri}/out")


def lock_of(out: Prefix) -> Prefix:
    return out / TEMPORARY / "lock"


def new_lease(out: Prefix) -> Lease:
    """Return one of a process that this machine has not: ours would be taken for its own, from before."""
    return Lease(lock_of(out), f"process 77, on here, run {secrets.token_hex(8)}")


@contextmanager
def held(out: Prefix, take_over: bool = False) -> Iterator[Lease]:
    lease = new_lease(out)
    lease.take(take_over)
    try:
        yield lease
    finally:
        lease.release()


@contextmanager
def renewed_elsewhere(out: Prefix) -> Iterator[None]:
    """Let another machine hold the lock, and renew it."""
    ended = threading.Event()

    def renew() -> None:
        count = 0
        while not ended.wait(RENEW_S):
            count += 1
            objects.put(str(lock_of(out)), ELSEWHERE.format(count).encode())

    objects.put(str(lock_of(out)), ELSEWHERE.format(0).encode())
    thread = threading.Thread(target=renew)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_a_lock_is_taken_kept_and_let_go(out: Prefix) -> None:
    """While it is held its object changes; afterwards the next one has it at once."""
    for _ in range(2):
        started = time.monotonic()
        with held(out) as lease:
            assert time.monotonic() - started < LAPSE_S
            before = lock_of(out).read_text()
            assert before.startswith(lease.name + "\n")
            time.sleep(3 * RENEW_S)
            lease.require()
            assert lock_of(out).read_text() != before
            assert 0 < lease.now_ns() - (time.time_ns() - 60_000_000_000) < 120_000_000_000
        assert lock_of(out).read_text() == "nobody\n"


def test_a_living_holder_is_told_of_soon(out: Prefix) -> None:
    """As soon as it has renewed once."""
    with renewed_elsewhere(out):
        started = time.monotonic()
        with pytest.raises(UsageError, match=f"{out} is in use by another run \\(process 77\\)") as caught:
            new_lease(out).take(take_over=False)
        assert time.monotonic() - started < 3 * RENEW_S + 0.5
        assert "stop it" in str(caught.value)
        assert lock_of(out).read_text().startswith("process 77, on far")


def test_a_living_process_of_this_machine_is_no_dead_one(out: Prefix) -> None:
    code = (
        "import sys, time\nfrom pipelines import lease\nlease.RENEW_S = 0.2\nfrom pipelines.epochs import one_writer\n"
        "from transforms.places import Prefix\n"
        "with one_writer(Prefix(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    words = [sys.executable, "-c", code, str(out)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match=f"in use by another run \\(process {holder.pid}\\)"), one_writer(out):
            pass
        holder.kill()
        holder.wait()
        started = time.monotonic()
        with one_writer(out):
            assert time.monotonic() - started < LAPSE_S - 0.2, "a dead process of this machine need not lapse"


def test_what_this_very_process_left_is_nobodys(out: Prefix) -> None:
    """A container's first process has the same number each time."""
    text = f"process {os.getpid()}, on here, run 01\nmachine {leases._machine()}, renewed 4 times\n"
    objects.put(str(lock_of(out)), text.encode())
    started = time.monotonic()
    with held(out):
        assert time.monotonic() - started < LAPSE_S - 0.2


@pytest.mark.parametrize("text", [ELSEWHERE.format(9), "no words of ours", ""])
def test_a_holder_that_renews_no_more_is_replaced(out: Prefix, text: str) -> None:
    """On another machine, after its time; not before. What is no lock of ours lapses too."""
    objects.put(str(lock_of(out)), text.encode())
    started = time.monotonic()
    with held(out) as lease:
        assert LAPSE_S <= time.monotonic() - started < LAPSE_S + 2
        lease.require()


def test_a_lock_that_is_let_go_while_one_waits_is_taken_at_once(out: Prefix, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LAPSE_S", 30.0)
    for end in (lambda: objects.put(str(lock_of(out)), b"nobody\n"), lambda: objects.remove(str(lock_of(out)))):
        objects.put(str(lock_of(out)), ELSEWHERE.format(3).encode())
        threading.Timer(0.3, end).start()
        started = time.monotonic()
        with held(out):
            assert time.monotonic() - started < 5


def test_who_is_shut_out_notices_and_harms_nothing(out: Prefix, caplog: pytest.LogCaptureFixture) -> None:
    """The one before cannot go on, renew, or let go what is another's by now."""
    with held(out) as first:
        first.require()
        with held(out, take_over=True) as second:
            with pytest.raises(RunError, match=f"taken over by another run \\({second.name}\\).*committed stands"):
                first.require()
            time.sleep(3 * RENEW_S)
            assert first.lost and not second.lost
            second.require()
            first.release()
            second.require()
            assert lock_of(out).read_text().startswith(second.name)
        assert lock_of(out).read_text() == "nobody\n"
        with pytest.raises(RunError, match="another run \\(nobody\\)"):
            first.require()


def test_a_lock_that_was_removed_is_lost(out: Prefix) -> None:
    """The data set may have been deleted: a run must not bring back a part of it."""
    with held(out) as lease:
        objects.remove(str(lock_of(out)))
        with pytest.raises(RunError, match="taken over by another run \\(nobody\\)"):
            lease.require()
        time.sleep(3 * RENEW_S)
        assert not lock_of(out).is_file()


@pytest.mark.parametrize(("kind", "patience_s"), [(503, 0), ("reset", 0), ("lost", 0), (503, 60)])
def test_a_store_that_is_away_takes_no_lock(
    out: Prefix, s3: S3, monkeypatch: pytest.MonkeyPatch, kind: Kind, patience_s: int
) -> None:
    """For longer than a lock stands, if nobody else came meanwhile."""
    with FaultProxy(s3.port) as proxy:
        use({"AWS_ENDPOINT_URL": proxy.address}, monkeypatch)
        with held(out) as lease:
            before = lock_of(out).read_text()
            impatient(monkeypatch, patience_s)
            proxy.fault(kind, seconds=LAPSE_S + 0.5)
            time.sleep(LAPSE_S + 0.6)
            lease.require()
            deadline = time.monotonic() + 8  # the client's own pauses grow
            while lock_of(out).read_text() == before and time.monotonic() < deadline:
                time.sleep(RENEW_S)
            assert lock_of(out).read_text() != before
            assert not lease.lost
        assert lock_of(out).read_text() == "nobody\n"


def test_of_those_that_begin_together_one_has_the_lock(bucket: Stored, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a new place, on one that was let go, and on one whose holder has died; with answers that are lost."""
    with FaultProxy(s3.port) as proxy:
        use({"AWS_ENDPOINT_URL": proxy.address}, monkeypatch)
        proxy.fault("lost", "^PUT ", every=5)
        for number in range(9):
            out = Prefix(f"{bucket.uri}/{number}")
            if number % 3 == 1:
                objects.put(str(lock_of(out)), b"nobody\n")
            if number % 3 == 2:
                objects.put(str(lock_of(out)), ELSEWHERE.format(3).encode())
            gate = threading.Barrier(4)

            def take(_: int, out: Prefix = out, gate: threading.Barrier = gate) -> Lease | None:
                lease = new_lease(out)
                gate.wait()
                try:
                    lease.take(take_over=False)
                except UsageError:
                    return None
                return lease

            with ThreadPoolExecutor(4) as pool:
                winners = [lease for lease in pool.map(take, range(4)) if lease]
            assert len(winners) == 1
            winners[0].require()
            winners[0].release()


def test_without_the_right_to_write_there_is_no_lock(bucket: Stored, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Misuse, told in one line."""
    use(s3.user(f"reads-{bucket.name}", reads=bucket.name), monkeypatch)
    with pytest.raises(UsageError, match=r"cannot write to s3://.*the right to write"), one_writer(Prefix(bucket.uri)):
        pass
