"""How a run stands, in numbers: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever starts and stops it.

Counters begin with the process, as Prometheus expects, and count what is committed, so nothing counts twice. What a
restart must not forget, the last commit and its epoch, comes from the manifests.
"""

import calendar
import errno
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipelines.dataset import Dataset, Manifest
from pipelines.logs import log
from pipelines.stream_plan import Gap, Ranges
from schemas.errors import UsageError
from schemas.layout import STREAM
from schemas.reasons import Outcome
from transforms import clock
from transforms.kafka.reader import Place
from transforms.messages import Record
from transforms.stopping import items_done

STUCK_SECONDS = 600.0
"""How long a stream's loop may stand still, and an epoch may do no item, before the process is taken for stuck."""

EVERYWHERE = "0.0.0.0"
"""Where the server listens unless told otherwise: probes and Prometheus come to a pod from outside of it."""

_MOST_ERRORS = 50
"""How many kinds of failures are told apart: each is a series that Prometheus keeps."""

_DURATIONS = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
_AGES = (1, 2, 5, 10, 30, 60, 300, 900, 3600, 6 * 3600, 24 * 3600, 7 * 24 * 3600)
_FILLS = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 1)
_PATIENCE_SECONDS = 5
_TURN_SECONDS = 0.2

# They would be a second series for each counter and each histogram, and nobody reads them.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """Takes in what happens to a run, and tells it; from any thread."""

    def __init__(self) -> None:
        self._run: tuple[Dataset, int] | None = None
        self._lock = threading.Lock()
        self._lag: dict[Place, int] = {}
        self._broker_answers: bool | None = None
        self._published: int | None = None
        self._beat: float | None = None
        self._done = items_done()
        self._errors: set[str] = set()
        self.registry = registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)
        registry.register(_State(self))
        self._build = Gauge(
            "labelstream_build_info",
            "Always 1: the version, and the hash of the configuration.",
            ["version", "configuration"],
            registry=registry,
        )
        self._items = Counter("labelstream_items", "Items committed.", ["outcome"], registry=registry)
        for outcome in Outcome:
            self._items.labels(outcome)
        self._failures = Counter("labelstream_failures", "Items that failed.", ["error"], registry=registry)
        self._messages = Counter("labelstream_messages", "Messages committed.", registry=registry)
        self._bytes = Counter("labelstream_message_bytes", "Bytes of messages committed.", registry=registry)
        self._running = Gauge(
            "labelstream_running_messages", "Messages of the epoch that runs; 0 between two.", registry=registry
        )
        self._lost = Counter(
            "labelstream_lost_offsets",
            "Offsets that the broker deleted before they were read.",
            ["topic", "partition"],
            registry=registry,
        )
        self._lost_at = Gauge(
            "labelstream_last_loss_timestamp_seconds", "When offsets were last found lost; 0 never.", registry=registry
        )
        self._seconds = Histogram(
            "labelstream_epoch_duration_seconds", "From plan to commit.", buckets=_DURATIONS, registry=registry
        )
        self._fill = Histogram(
            "labelstream_epoch_fill_ratio",
            "Messages (of a run over files: items) of an epoch, as a share of --epoch-items.",
            buckets=_FILLS,
            registry=registry,
        )
        self._age = Histogram(
            "labelstream_queue_age_seconds",
            "Age of the oldest message of an epoch when the epoch was closed.",
            buckets=_AGES,
            registry=registry,
        )
        self._epoch = Gauge("labelstream_epoch", "The last epoch committed; 0 for none.", registry=registry)
        self._committed_at = Gauge(
            "labelstream_last_commit_timestamp_seconds", "When it was committed; 0 for none.", registry=registry
        )

    # ------------------------------------------------------------------------------------------- what happens

    def loaded(self, dataset: Dataset, epoch_items: int, version: str, configuration_hash: str) -> None:
        """Take in that the models are there, and with what the run goes on; `epoch_items` is the most of one epoch."""
        with self._lock:
            self._run = dataset, epoch_items
            self._build.labels(version, configuration_hash[:12]).set(1)
            if dataset.manifests:
                self._stands(dataset.manifests[-1])

    def lag(self, lag: Mapping[Place, int]) -> None:
        """Take in how many offsets of each partition are not yet read."""
        self.alive()
        with self._lock:
            self._lag = dict(lag)
            for topic, partition in lag:
                self._lost.labels(topic, partition)  # from 0 on, so that the first loss is a rise

    def broker(self, *, answers: bool) -> None:
        """Take in whether the broker answers."""
        self.alive()
        self._broker_answers = answers

    def gap(self, gap: Gap) -> None:
        """Take in that the broker deleted what was not yet read."""
        with self._lock:
            self._lost.labels(gap.topic, gap.partition).inc(gap.until - gap.start)
            self._lost_at.set_to_current_time()

    def closed(self, ranges: Ranges, records: Sequence[Record]) -> None:
        """Take in an epoch that is about to run."""
        self.alive()
        stamps = [record.timestamp_ms for record in records if record.timestamp_ms is not None]
        with self._lock:
            self._running.set(len(records))
            if stamps:
                self._age.observe(max(0.0, time.time() - min(stamps) / 1000))

    def committed(self, manifest: Manifest) -> None:
        """Take in a commit of the data set that was `loaded`."""
        told = manifest.told
        stream = told.get(STREAM, {})
        failed = _failures(self._run[0], manifest) if self._run else {}
        with self._lock:
            for outcome, count in told["outcomes"].items():
                self._items.labels(outcome).inc(count)
            for error, count in failed.items():
                self._failures.labels(self._bounded(error)).inc(count)
            self._messages.inc(stream.get("messages", 0))
            self._bytes.inc(stream.get("bytes", 0))
            self._seconds.observe(told["seconds"])
            if self._run:
                self._fill.observe(stream.get("messages", told["items"]) / self._run[1])
            self._running.set(0)
            self._stands(manifest)

    def published(self, epoch: int) -> None:
        """Take in up to which epoch Kafka has the results."""
        self._published = epoch

    def alive(self) -> None:
        """Take in that the loop of a stream turns. From the first time on it must, until `finishing`."""
        self._beat = time.monotonic()

    def working(self) -> None:
        """Take in that an epoch runs; the loop counts as alive where items were done since it was last asked."""
        done = items_done()
        if done != self._done:
            self._done = done
            self.alive()

    def finishing(self) -> None:
        """Take in that the loop has ended: what comes now takes as long as it takes."""
        self._beat = None

    def _stands(self, manifest: Manifest) -> None:
        self._epoch.set(manifest.epoch)
        self._committed_at.set(_seconds_of(manifest.told["committed_at"]))

    def _bounded(self, error: str) -> str:
        if error not in self._errors and len(self._errors) >= _MOST_ERRORS:
            return "other"
        self._errors.add(error)
        return error

    # ------------------------------------------------------------------------------------------- what is told

    def text(self) -> bytes:
        """Return all numbers in Prometheus' text format; a commit is in all of them or in none."""
        with self._lock:
            return generate_latest(self.registry)

    def ill(self) -> str:
        """Return why the process should be started anew, '' where it should not."""
        beat = self._beat
        still = 0.0 if beat is None else time.monotonic() - beat
        return f"nothing has moved for {still:.0f} s" if still > STUCK_SECONDS else ""

    def unready(self) -> str:
        """Return what the run waits for, '' where it is at work."""
        if self._run is None:
            return "the models are being loaded"
        return "the broker does not answer" if self._broker_answers is False else ""

    def state(self) -> Iterator[Metric]:
        """Yield what is not always there: of a run over files, or one that sends no results, some is not."""
        lag = GaugeMetricFamily(
            "labelstream_lag_offsets", "Offsets that are not yet read.", labels=["topic", "partition"]
        )
        for (topic, partition), offsets in sorted(self._lag.items()):
            lag.add_metric([topic, str(partition)], offsets)
        yield lag
        beat = self._beat
        told = (
            ("labelstream_broker_up", "Whether the broker answers.", self._broker_answers),
            ("labelstream_published_epoch", "The last epoch whose results are in Kafka.", self._published),
            (
                "labelstream_heartbeat_timestamp_seconds",
                "When the loop last turned, or an item was last done.",
                None if beat is None else time.time() - (time.monotonic() - beat),
            ),
        )
        for name, meaning, value in told:
            yield GaugeMetricFamily(name, meaning, value=None if value is None else float(value))
        steps = CounterMetricFamily(
            "labelstream_step_seconds", "Time that each step took, added up over all threads.", labels=["step"]
        )
        for step, seconds in clock.seconds().items():
            steps.add_metric([step], seconds)
        yield steps


class _State(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return self.metrics.state()


def _failures(dataset: Dataset, manifest: Manifest) -> dict[str, int]:
    """Return how many items of a commit failed, by error."""
    if not manifest.told["outcomes"].get(Outcome.FAILED, 0):
        return {}
    rows = Dataset.of(dataset.path, [manifest]).scan("failures")
    return dict(rows.group_by("error").len().sort("error").collect().iter_rows())


def _seconds_of(stamp: str) -> int:
    """Return a manifest's time in seconds since 1970.

    >>> _seconds_of("1970-01-02T00:00:01Z")
    86401
    """
    return calendar.timegm(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ"))


@contextmanager
def serving(metrics: Metrics, host: str, port: int | None) -> Iterator[str]:
    """Answer HTTP while the block runs; yield the address, '' without a port. With port 0 any free one is taken.

    Raises `UsageError` where it cannot listen there.
    """
    if port is None:
        yield ""
        return
    with _listening(metrics, host, port) as server:
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{server.server_address[1]}"
        log.info("%s/metrics, /healthz and /readyz answer", url)
        threading.Thread(target=server.serve_forever, args=(_TURN_SECONDS,), name="metrics", daemon=True).start()
        try:
            yield url
        finally:
            server.shutdown()


def _listening(metrics: Metrics, host: str, port: int) -> "_Server":
    try:
        return _Server(metrics, host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            why = "something listens there already: name another port, or end what has it"
        elif isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            why = f"this is no address of this machine: expected one, {EVERYWHERE} (all of them) or :: (IPv6 too)"
        elif error.errno == errno.EACCES:
            why = "ports under 1024 are for root: name another"
        else:
            why = error.strerror or str(error)
        raise UsageError(f"--metrics-port {port} on --metrics-host {host}: {why}") from None


class _Server(ThreadingTCPServer):
    """Not the library's HTTP server: that one asks a name server for its own name when it starts."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 16

    def __init__(self, metrics: Metrics, host: str, port: int) -> None:
        self.metrics = metrics
        address: Any
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self.address_family = family
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over a client that went away; tell the rest in one line."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            log.error("an answer to %s failed: %r", client_address[0], error)


class _Handler(BaseHTTPRequestHandler):
    """Three pages, for reading alone. A client that is slow to ask is let go."""

    server: _Server
    timeout = _PATIENCE_SECONDS
    server_version = "labelstream"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer one request."""
        status, kind, body = self._answer(self.path.partition("?")[0])
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815  the base class looks for this name

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a probe comes every few seconds."""

    def _answer(self, path: str) -> tuple[int, str, bytes]:
        metrics, text = self.server.metrics, "text/plain; charset=utf-8"
        if path == "/metrics":
            return 200, CONTENT_TYPE_PLAIN_0_0_4, metrics.text()
        if path not in ("/healthz", "/readyz"):
            return 404, text, b"expected /metrics, /healthz or /readyz\n"
        wrong = metrics.ill() if path == "/healthz" else metrics.ill() or metrics.unready()
        return (503, text, f"{wrong}\n".encode()) if wrong else (200, text, b"ok\n")
