"""What a run tells of itself, asked for over HTTP as Prometheus and a probe do."""

import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipelines import metrics as told_by
from pipelines.dataset import Dataset
from pipelines.metrics import Metrics, serving
from pipelines.stream_plan import Gap, Ranges
from schemas.errors import UsageError
from schemas.tables import Tables
from tests.builders import face, picture, tables
from tests.pipelines.holding import commit
from transforms import clock, stopping
from transforms.messages import Record

LABELS = {"outcome", "error", "topic", "partition", "step", "version", "configuration", "le"}
"""All labels there may be: none of them can hold a secret, nor grow with what comes in."""

RANGES = Ranges("host:9092", {"frames": "id"}, {}, {}, {}, (), {}, None, 1, 0, "")


def failing(shard: Tables, *errors: str) -> Tables:
    """Return the tables with a failed item for each error."""
    rows = [{"item_key": f"f{at}", "root": 0, "step": "decode", "error": error} for at, error in enumerate(errors)]
    return replace(shard, failures=pa.Table.from_pylist(rows, schema=shard.failures.schema))


def streamed(folder: Path, shard: Tables, *, messages: int, size_bytes: int, **told: Any) -> Dataset:
    """Commit what messages meant; return the data set as it is then."""
    stream = RANGES.to_told() | {"messages": messages, "bytes": size_bytes}
    return Dataset(commit(folder, shard, stream=stream, **told))


def record(offset: int, timestamp_ms: int | None) -> Record:
    """Return a record of the time."""
    return Record("frames", 0, offset, timestamp_ms, None, b"x", ())


def at_work(folder: Path) -> Metrics:
    """Return the metrics of a run to which everything has happened that can."""
    metrics = Metrics()
    shard = failing(tables(picture("a.jpg", face()), picture("b.jpg")), "truncated")
    dataset = streamed(folder, shard, messages=3, size_bytes=3000)
    metrics.broker(answers=True)
    metrics.loaded(dataset, 100, "0.3.0", "abc")
    metrics.lag({("frames", 0): 5, ("frames", 1): 0})
    metrics.gap(Gap("frames", 1, 10, 30))
    metrics.closed(RANGES, [record(0, round(time.time() * 1000) - 90_000)])
    with clock.clocked("decode"):
        metrics.committed(dataset.manifests[-1])
    metrics.published(1)
    return metrics


@pytest.fixture(name="metrics")
def _metrics() -> Metrics:
    return Metrics()


@pytest.fixture(name="url")
def _url(metrics: Metrics) -> Iterator[str]:
    with serving(metrics, "127.0.0.1", 0) as url:
        yield url


def get(url: str) -> tuple[int, str]:
    """Return status and text of a page."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def parsed(text: str) -> dict[tuple[str, ...], float]:
    """Return the samples by their name and the values of their labels, in the labels' order."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def said(url: str, request: bytes) -> bytes:
    """Return all that is answered to a request, as it comes."""
    with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=10) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(65536), b""))


def of(told: dict[tuple[str, ...], float], wanted: str) -> dict[tuple[str, ...], float]:
    """Return the samples of one metric by the values of its labels."""
    return {(*labels,): value for (name, *labels), value in told.items() if name == wanted}


def asked(url: str) -> dict[tuple[str, ...], float]:
    """Return the samples of a run over HTTP."""
    status, text = get(f"{url}/metrics")
    assert status == 200
    return parsed(text)


def test_a_scrape_tells_what_was_committed(metrics: Metrics, url: str, tmp_path: Path) -> None:
    """Items, failures, messages, bytes, duration and fill are those of the manifests."""
    first = failing(tables(picture("a.jpg", face()), picture("b.jpg")), "truncated", "tombstone")
    dataset = streamed(tmp_path, first, messages=4, size_bytes=4000, seconds=3.0)
    metrics.loaded(dataset, 16, "0.3.0", "abc")
    metrics.committed(dataset.manifests[0])
    second = failing(tables(picture("c.jpg", face())), "truncated")
    dataset = streamed(tmp_path, second, messages=3, size_bytes=500, committed_at="2026-01-31T12:00:00Z", seconds=90.0)
    metrics.committed(dataset.manifests[1])
    told = asked(url)
    outcomes = {"labelled": 2, "no_face": 1, "duplicate": 0, "quarantined": 0, "failed": 3}
    for outcome, count in outcomes.items():
        assert told["labelstream_items_total", outcome] == count
    assert told["labelstream_failures_total", "truncated"] == 2
    assert told["labelstream_failures_total", "tombstone"] == 1
    assert told["labelstream_messages_total",] == 7
    assert told["labelstream_message_bytes_total",] == 4500
    assert told["labelstream_epoch_duration_seconds_sum",] == 93
    assert told["labelstream_epoch_duration_seconds_bucket", "5.0"] == 1
    assert told["labelstream_epoch_fill_ratio_sum",] == (4 + 3) / 16
    assert told["labelstream_epoch",] == 2
    assert told["labelstream_last_commit_timestamp_seconds",] == 1_769_860_800
    assert told["labelstream_build_info", "abc", "0.3.0"] == 1


def test_a_run_over_files_counts_its_items(metrics: Metrics, url: str, tmp_path: Path) -> None:
    """Without messages the fill is that of items; what only a stream has is not told at all."""
    dataset = Dataset(commit(tmp_path, tables(picture("a.jpg", face()), picture("b.jpg"))))
    metrics.loaded(dataset, 4, "0.3.0", "abc")
    metrics.committed(dataset.manifests[0])
    told = asked(url)
    assert told["labelstream_epoch_fill_ratio_sum",] == 0.5
    assert told["labelstream_messages_total",] == 0
    absent = {"labelstream_broker_up", "labelstream_published_epoch", "labelstream_heartbeat_timestamp_seconds"}
    assert not absent & {name for name, *_ in told}


def test_a_restart_counts_from_nothing_but_knows_the_last_commit(metrics: Metrics, url: str, tmp_path: Path) -> None:
    """Prometheus takes a counter that falls to 0 for a restart; the age of the last commit must not begin anew."""
    dataset = streamed(tmp_path, tables(picture()), messages=1, size_bytes=10, committed_at="2026-01-31T12:00:00Z")
    metrics.loaded(dataset, 16, "0.3.0", "abc")
    told = asked(url)
    assert told["labelstream_items_total", "no_face"] == told["labelstream_messages_total",] == 0
    assert told["labelstream_epoch",] == 1
    assert told["labelstream_last_commit_timestamp_seconds",] == 1_769_860_800


def test_lag_is_that_of_the_partitions_that_are_there(metrics: Metrics, url: str) -> None:
    """A topic that is gone has no lag that stands for ever; a partition without loss says 0."""
    metrics.lag({("frames", 0): 7, ("gone", 0): 9})
    metrics.lag({("frames", 0): 3, ("frames", 1): 0})
    metrics.gap(Gap("frames", 1, 10, 30))
    metrics.gap(Gap("frames", 1, 40, 45))
    told = asked(url)
    lag = of(told, "labelstream_lag_offsets")
    assert lag == {("0", "frames"): 3, ("1", "frames"): 0}
    assert told["labelstream_lost_offsets_total", "0", "frames"] == 0
    assert told["labelstream_lost_offsets_total", "1", "frames"] == 25
    assert abs(told["labelstream_last_loss_timestamp_seconds",] - time.time()) < 60


def test_age_is_that_of_the_oldest_message(metrics: Metrics, url: str) -> None:
    """Messages without a time are passed over, and a producer's clock that is ahead makes no negative age."""
    now = round(time.time() * 1000)
    metrics.closed(RANGES, [record(0, now - 1000), record(1, now - 90_000), record(2, None)])
    assert asked(url)["labelstream_running_messages",] == 3
    metrics.closed(RANGES, [record(3, now + 3_600_000)])
    metrics.closed(RANGES, [record(4, None)])
    told = asked(url)
    assert told["labelstream_queue_age_seconds_count",] == 2
    assert 89.9 < told["labelstream_queue_age_seconds_sum",] < 120


def test_kinds_of_failures_are_bounded(metrics: Metrics, url: str, tmp_path: Path) -> None:
    """Whatever errors there are, Prometheus keeps a bounded number of series."""
    shard = failing(tables(picture()), *(f"error{at}" for at in range(80)))
    dataset = streamed(tmp_path, shard, messages=81, size_bytes=81)
    metrics.loaded(dataset, 100, "0.3.0", "abc")
    metrics.committed(dataset.manifests[0])
    kinds = of(asked(url), "labelstream_failures_total")
    assert len(kinds) == 51 and kinds["other",] == 30


@pytest.fixture(name="_hasty")
def _hasty_threads() -> Iterator[None]:
    """Threads take turns a thousand times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_hasty")
def test_a_scrape_sees_a_commit_whole(metrics: Metrics, url: str, tmp_path: Path) -> None:
    """While several threads commit and scrape, sums agree in each answer, and in the end nothing is missing."""
    dataset = streamed(tmp_path, tables(picture("a.jpg", face()), picture("b.jpg")), messages=3, size_bytes=300)
    metrics.loaded(dataset, 100, "0.3.0", "abc")
    threads = [
        threading.Thread(target=lambda: [metrics.committed(dataset.manifests[0]) for _ in range(500)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    answers = [asked(url)]
    while any(thread.is_alive() for thread in threads):
        metrics.lag({("frames", at): at for at in range(len(answers) % 7)})
        answers.append(asked(url))
    answers.append(asked(url))
    for told in answers:
        commits = told["labelstream_epoch_duration_seconds_count",]
        assert told["labelstream_items_total", "labelled"] == told["labelstream_items_total", "no_face"] == commits
        assert told["labelstream_messages_total",] == 3 * commits
        assert told["labelstream_message_bytes_total",] == 300 * commits
    assert commits == 2000


def test_no_label_can_hold_a_secret_and_no_number_is_told_twice(tmp_path: Path) -> None:
    """Servers, users, paths and ids are no labels; of the process there is one collector."""
    text = at_work(tmp_path).text().decode()
    families = list(text_string_to_metric_families(text))
    assert {label for family in families for sample in family.samples for label in sample.labels} == LABELS
    named = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(named) == len(set(named)) and "process_cpu_seconds_total" in named
    assert "host" not in text and str(tmp_path) not in text and "_created" not in text


def test_a_run_is_ready_when_its_models_and_its_broker_are(metrics: Metrics, url: str, tmp_path: Path) -> None:
    """/readyz says what is waited for; /healthz is content all the time."""
    page = f"{url}/readyz"
    assert get(page) == (503, "the models are being loaded\n")
    metrics.loaded(Dataset(commit(tmp_path, tables(picture()))), 100, "0.3.0", "abc")
    assert get(page) == (200, "ok\n")
    metrics.broker(answers=False)
    assert get(page) == (503, "the broker does not answer\n")
    assert get(f"{url}/healthz") == (200, "ok\n")
    metrics.broker(answers=True)
    assert get(page) == (200, "ok\n")


def test_a_loop_that_stands_still_is_ill(
    metrics: Metrics, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch that runs without doing an item is no sign of life; what comes after the loop needs none."""
    page = f"{url}/healthz"
    metrics.loaded(Dataset(commit(tmp_path, tables(picture()))), 100, "0.3.0", "abc")
    monkeypatch.setattr(told_by, "STUCK_SECONDS", 0.3)
    time.sleep(0.4)
    assert get(page)[0] == 200, "nothing has to turn before it first did"
    metrics.alive()
    assert get(page)[0] == 200
    time.sleep(0.4)
    metrics.working()
    status, why = get(page)
    assert status == 503 and why.startswith("nothing has moved for")
    stopping.tick(1)
    metrics.working()
    assert get(page) == (200, "ok\n")
    time.sleep(0.4)
    assert get(page)[0] == get(f"{url}/readyz")[0] == 503
    metrics.finishing()
    assert get(page) == (200, "ok\n")


@pytest.mark.parametrize("turns", [Metrics.alive, lambda it: it.lag({}), lambda it: it.broker(answers=False)])
def test_whatever_the_loop_does_is_a_sign_of_life(metrics: Metrics, turns: Any) -> None:
    """A loop that waits for a broker that is away turns: to start it anew would help nobody."""
    turns(metrics)
    [beat] = of(parsed(metrics.text().decode()), "labelstream_heartbeat_timestamp_seconds").values()
    assert abs(beat - time.time()) < 5


def test_other_pages_and_methods_are_refused(url: str) -> None:
    """Only what is there is answered; nothing can be written; the server does not tell what it is made of."""
    assert get(f"{url}/")[0] == get(f"{url}/../etc/passwd")[0] == 404
    assert get(f"{url}/healthz?verbose=1") == (200, "ok\n")
    head = said(url, b"HEAD /metrics HTTP/1.0\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 ") and head.endswith(b"\r\n\r\n") and head.count(b"\r\n\r\n") == 1
    assert b"\r\nServer: labelstream \r\n" in head
    assert b"\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n" in head
    assert said(url, b"POST /metrics HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 501 ")


def test_a_client_that_says_nothing_hinders_nobody(
    metrics: Metrics, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are answered beside it, it is let go after a while, and one that hangs up is not told of."""
    assert 0 < told_by._Handler.timeout <= 10
    monkeypatch.setattr(told_by._Handler, "timeout", 0.5)
    with serving(metrics, "127.0.0.1", 0) as url:
        address = (urlsplit(url).hostname, urlsplit(url).port)
        with socket.create_connection(address, timeout=10) as silent, socket.create_connection(address) as rude:
            rude.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            rude.close()
            assert get(f"{url}/healthz")[0] == 200
            assert silent.recv(10) == b""
    told = capfd.readouterr().err
    assert "Exception" not in told and "ConnectionResetError" not in told


def test_a_port_that_is_taken_is_told(metrics: Metrics, url: str) -> None:
    """The message names the port and says what to do."""
    port = urlsplit(url).port
    told = rf"--metrics-port {port} on --metrics-host 127.0.0.1: something listens there already: name another port"
    with pytest.raises(UsageError, match=told), serving(Metrics(), "127.0.0.1", port):
        pass


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_an_address_that_is_not_ours_is_told(metrics: Metrics, host: str) -> None:
    """A name that nobody knows, and an address of another machine."""
    with pytest.raises(UsageError, match=f"--metrics-host {host}: this is no address of this machine"):
        _listen(metrics, host)


def _listen(metrics: Metrics, host: str) -> None:
    with serving(metrics, host, 0):
        pass


def test_the_port_is_free_again_afterwards(metrics: Metrics) -> None:
    """A restart on the same port listens at once; without a port nothing listens."""
    with serving(metrics, "127.0.0.1", 0) as url:
        assert get(f"{url}/healthz")[0] == 200
    with serving(metrics, "127.0.0.1", urlsplit(url).port) as again:
        assert again == url and get(f"{url}/healthz")[0] == 200
    with pytest.raises(urllib.error.URLError):
        get(f"{url}/healthz")
    with serving(metrics, "0.0.0.0", None) as nowhere:
        assert nowhere == ""


def test_ipv6_is_listened_on(metrics: Metrics) -> None:
    """`::` is all addresses, those of IPv4 too."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with serving(metrics, "::", 0) as url:
        port = urlsplit(url).port
        assert get(f"http://[::1]:{port}/healthz") == get(f"http://127.0.0.1:{port}/healthz") == (200, "ok\n")


def test_a_server_that_nobody_asks_costs_nothing(url: str) -> None:
    """Under half a per cent of a core."""
    [server] = [thread for thread in threading.enumerate() if thread.name == "metrics"]
    used = time.pthread_getcpuclockid(server.ident or 0)
    before = time.clock_gettime(used)
    time.sleep(2)
    assert (time.clock_gettime(used) - before) / 2 < 0.005
