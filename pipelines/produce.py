"""Feed a Kafka topic: `python -m pipelines.produce --input photos/ --to kafka://localhost:9092/frames`.

Sends each picture, and each frame of each video, as one message; or a camera's frames, without end. With --replay it
brings dead letters back, each one once.
"""

import argparse
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

from pipelines import options as shared
from pipelines.feeding import Feed, Seldom, Tally, require_topic, sleep
from pipelines.logs import configure, log, run_command
from pipelines.replay import replay
from schemas.errors import ItemError, RunError, UsageError
from transforms import stopping
from transforms.capture import Live, Refused, capture, is_live, read_live
from transforms.envelope import (
    MOST_SOURCE_ID,
    Envelope,
    Reference,
    jpeg_of,
    of_frame,
    of_picture,
    of_reference,
    require_known,
    require_source_id,
)
from transforms.kafka import clients
from transforms.kafka.access import Access, read_access
from transforms.kafka.address import Address
from transforms.sampling import ALL
from transforms.source import UNREADABLE, InputFile, Listing, list_inputs
from transforms.storage import printable, read_bytes
from transforms.video import head_of, read_clip
from transforms.video_index import clips, index_of, video_kind

# Beam is never loaded here: a feed starts in a second.

EPILOG = """\
examples:
  python -m pipelines.produce --input photos/ --input clip.mp4 --fps 5 --to kafka://localhost:9092/frames
  python -m pipelines.produce --input photos/ --references --to kafka://localhost:9092/frames
  python -m pipelines.produce --input camera:0 --source-id door --fps 2 --to kafka://localhost:9092/frames
  python -m pipelines.produce --input @cameras.txt --fps 2 --to kafka://broker:9093/frames --kafka-config client.conf
  python -m pipelines.produce --replay kafka://localhost:9092/dead --error corrupt --to kafka://localhost:9092/frames

A camera's address goes into a list (@cameras.txt, one rtsp://user:password@host/path a line) when it holds a password:
other users of the machine can see the command line. Frames that the broker is too slow for are dropped, and counted.
Where no camera is among the inputs nothing is dropped: a broker that is away is waited for. Every message is sent at
least once; --replay sends exactly once, also over several runs: it remembers in the topic TOPIC-replayed.

exit codes: 0 all was sent, or a camera's time was up; 1 something was not sent, each told by a line; 2 misuse."""

LIVE_QUEUE = 64
"""Frames between the cameras and the sender; more are dropped."""

_LINE_S = 60.0
_REPLAY_ONLY, _INPUT_ONLY = ("error",), ("source_id", "fps", "start_time", "references", "duration", "rate")


def parser() -> shared.Parser:
    """Return the parser of all options of this job."""
    made = shared.Parser(
        prog="python -m pipelines.produce", description="\n".join(__doc__.splitlines()[2:]), epilog=EPILOG
    )
    what = made.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--input",
        action="append",
        metavar="WHERE",
        help="a folder (read recursively), a file, a glob in quotes, rtsp://host/path, camera:0, or @list.txt with one "
        "of these a line; repeatable. Files come before cameras",
    )
    what.add_argument(
        "--replay", metavar="KAFKA", help="a topic of dead letters to bring back: kafka://host:port/topic"
    )
    made.add_argument("--to", required=True, metavar="KAFKA", help="kafka://host:port[,host:port]/topic")
    made.add_argument("--kafka-config", metavar="FILE", help="security settings, as kcat -F and Java clients take them")
    made.add_argument(
        "--partitions", type=shared.whole(1, 10_000), default=2, metavar="N", help="of the topic, where it is made"
    )
    frames = made.add_argument_group("pictures and frames")
    frames.add_argument(
        "--source-id",
        metavar="NAME",
        help="where they come from; messages of one source keep their order. Default: a video's name, a camera's "
        "address without user and password; pictures have none",
    )
    frames.add_argument("--fps", type=shared.fps, metavar="N", help="send at most N frames a second: 5, 0.5, 1/3")
    frames.add_argument(
        "--quality", type=shared.whole(1, 100), default=95, metavar="1..100", help="of the JPEG that a frame becomes"
    )
    frames.add_argument(
        "--start-time",
        type=start_time,
        metavar="TIME",
        help="when the videos begin: 2026-01-31T12:00:00Z or milliseconds since 1970. Default: the file's time",
    )
    frames.add_argument(
        "--references",
        action="store_true",
        help="send the names of files in place of their bytes; a video is one message. Who reads the topic must see "
        "the same files",
    )
    frames.add_argument(
        "--max-message-bytes",
        type=shared.whole(1, 2**30),
        default=1_000_000,
        metavar="N",
        help="largest message that is sent; the topic's max.message.bytes has to allow it",
    )
    shared.add_shared(frames, "max-pixels")
    run = made.add_argument_group("the run")
    run.add_argument("--rate", type=rate, metavar="N", help="send at most N messages a second")
    run.add_argument("--duration", type=seconds, metavar="SECONDS", help="end a camera's run by itself")
    run.add_argument("--error", metavar="NAME", help="with --replay: only letters of this error, as corrupt")
    shared.add_shared(run, "log-format")
    return made


def start_time(text: str) -> int:
    """Read a moment as milliseconds since 1970; one without a zone is UTC. For argparse."""
    if text.isascii() and text.isdecimal():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a time as 2026-01-31T12:00:00Z, got {text!r}") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def seconds(text: str) -> float:
    """Read a number of seconds above 0, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.0 < number < 1e9:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, got {text!r}")
    return number


def rate(text: str) -> float:
    """Read messages a second, for argparse."""
    return 1 / seconds(text)


@dataclass(frozen=True)
class Wanted:
    """What the messages are made of; `start_ms` is None where each file's own time counts."""

    source_id: str | None
    fps: Fraction | None
    quality: int
    start_ms: int | None
    references: bool
    largest_bytes: int
    max_pixels: int


def main(argv: Sequence[str]) -> int:
    """Run the job; return its exit code."""
    arguments = parser()
    options = arguments.parse_args(argv)
    configure(options.log_format)
    _require_fitting(options)
    clients.quiet()
    to = Address.parse(options.to, "--to")
    dead = Address.parse(options.replay, "--replay") if options.replay else None
    for address in filter(None, (to, dead)):
        address.one_topic  # noqa: B018  it says what is wrong
    access = read_access(options.kafka_config)
    return _replay(dead, options, to, access) if dead else _feed(options, to, access)


def _require_fitting(options: argparse.Namespace) -> None:
    unfit = _INPUT_ONLY if options.replay else _REPLAY_ONLY
    for name in unfit:
        if getattr(options, name):
            raise UsageError(
                f"--{name.replace('_', '-')} goes with {'--input' if options.replay else '--replay'} (see --help)"
            )
    if options.source_id is not None:
        require_source_id(options.source_id)


def _replay(dead: Address, options: argparse.Namespace, to: Address, access: Access) -> int:
    with stopping.stop_on_signals():
        replayed = replay(dead, to, access, options.error, options.partitions, stopping.stop_requested)
        stopped = stopping.stop_requested()
    log.info("%s", replayed.told())
    return 1 if stopped and not replayed.done else 0


def _feed(options: argparse.Namespace, to: Address, access: Access) -> int:
    lives, listing = read_inputs(options.input)
    if options.duration and not lives:
        raise UsageError("--duration is for cameras: files end by themselves")
    if options.source_id and len(lives) > 1:
        raise UsageError(f"--source-id {options.source_id} names one camera, got {len(lives)}: run one job for each")
    wanted = Wanted(
        source_id=options.source_id,
        fps=options.fps,
        quality=options.quality,
        start_ms=options.start_time,
        references=options.references,
        largest_bytes=options.max_message_bytes,
        max_pixels=options.max_pixels,
    )
    with stopping.stop_on_signals():
        clients.require_broker(to.servers, access)
        require_topic(to.servers, access, to.one_topic, options.partitions)
        tally = Tally()
        feed = Feed(to, access, stopping.stop_requested, tally, wanted.largest_bytes)
        sender = _Sender(feed.send, tally, options.rate)
        try:
            for file in listing.files if listing else ():
                if stopping.stop_requested():
                    break
                _send_file(file, wanted, sender, feed)
            if lives:
                _send_live(lives, wanted, options.duration, sender, tally)
        finally:
            feed.close()
            stopped = stopping.stop_requested()
            log.info("%s%s", "stopped: " if stopped else "", tally.told())
    if not (lives or stopped or tally.sent or tally.not_sent):
        raise UsageError(f"No input found: {', '.join(map(printable, options.input))} holds no picture and no video")
    return 1 if tally.not_sent or (stopped and not lives) else 0


def read_inputs(inputs: Sequence[str]) -> tuple[list[Live], Listing | None]:
    """Return the cameras and the files that the inputs name; None where no input names files. Raises UsageError."""
    lives: list[Live] = []
    files: list[str] = []
    for text in inputs:
        _require_known_scheme(text)
        if is_live(text):
            lives.append(read_live(text))
            if lives[-1].has_password:
                log.warning("%s: others can see a password on the command line: use --input @list.txt", lives[-1].name)
        elif text.startswith("@") and (listed := _cameras(text[1:])):
            lives += listed
        else:
            files.append(text)
    if len({live.name for live in lives}) < len(lives):
        raise UsageError(
            "two cameras have the same address but for user and password: their frames could not be told apart"
        )
    return lives, list_inputs(files, exclude=None) if files else None


def _require_known_scheme(text: str) -> None:
    scheme, found, _ = text.partition("://")
    if found and scheme.isalnum() and not is_live(text):  # what follows may hold a password
        raise UsageError(f"{scheme}:// is no input here: expected files, rtsp://host/path or camera:0")


def _cameras(path: str) -> list[Live]:
    """Return the cameras that a list names; an empty list for one that names something else."""
    try:
        lines = Path(path).read_text("utf-8").splitlines() if Path(path).is_file() else []
    except (OSError, UnicodeDecodeError):
        return []  # `list_inputs` says what is wrong with it
    lines = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    for line in lines:
        _require_known_scheme(line)
    live = [is_live(line) for line in lines]
    if any(live) and not all(live):
        raise UsageError(f"the list {printable(path)} names cameras and files: make it two lists")
    return [read_live(line) for line in lines] if any(live) else []


class _Sender:
    """Hands messages to the feed, not faster than asked for, and tells once a minute how far it is."""

    def __init__(self, send: Callable[[str, Envelope], None], tally: Tally, step_s: float | None) -> None:
        self._send, self._tally, self._step_s = send, tally, step_s
        self._due = self._told = time.monotonic()

    def __call__(self, name: str, envelope: Envelope) -> None:
        if self._step_s:
            sleep(self._due - time.monotonic(), stopping.stop_requested)
            self._due = max(self._due + self._step_s, time.monotonic() - self._step_s)
        self._send(name, envelope)
        if time.monotonic() - self._told > _LINE_S:
            self._told = time.monotonic()
            log.info("%s", self._tally.told())


def _send_file(file: InputFile, wanted: Wanted, sender: _Sender, feed: Feed) -> None:
    try:
        for envelope in envelopes(file, wanted):
            if stopping.stop_requested():
                return
            sender(file.uri, envelope)
    except ItemError as error:
        feed.refuse(file.uri, str(error))


def envelopes(file: InputFile, wanted: Wanted) -> Iterator[Envelope]:
    """Yield the messages of one file; raise ItemError, where a video breaks behind its good frames."""
    file_ms = None if file.mtime_ns is None else file.mtime_ns // 1_000_000
    timestamp_ms = wanted.start_ms if wanted.start_ms is not None else file_ms
    if wanted.references:
        require_known(head_of(file.uri))
        yield of_reference(Reference(file.uri, wanted.source_id, timestamp_ms))
        return
    kind = None if file.size == UNREADABLE else video_kind(file.uri, wanted.max_pixels)
    if kind is not None:
        yield from _frames(file, kind, timestamp_ms or 0, wanted)
        return
    if file.size > wanted.largest_bytes:
        raise ItemError(
            "too_large",
            f"its {file.size:,} bytes are over the limit of {wanted.largest_bytes:,}: raise --max-message-bytes and "
            "the topic's max.message.bytes, or send names with --references",
        )
    data = read_bytes(file.uri, wanted.largest_bytes)
    yield of_picture(data, timestamp_ms=timestamp_ms, source_id=wanted.source_id)


def _frames(file: InputFile, kind: str, start_ms: int, wanted: Wanted) -> Iterator[Envelope]:
    chosen = str(wanted.fps or ALL)
    source_id = wanted.source_id or printable(file.file_name)[-MOST_SOURCE_ID:]
    for clip in clips(index_of(file.uri, kind, wanted.max_pixels), chosen):
        for frame in read_clip(file.uri, clip, wanted=chosen, max_pixels=wanted.max_pixels):
            yield of_frame(
                jpeg_of(frame.rgb, wanted.quality),
                timestamp_ms=start_ms + round(frame.moment.pts_ms),
                source_id=source_id,
                frame_index=frame.moment.frame,
            )


def _send_live(lives: Sequence[Live], wanted: Wanted, duration_s: float | None, sender: _Sender, tally: Tally) -> None:
    """Send what the cameras see until a stop is asked for, or the time is up. Raises RunError."""
    until = time.monotonic() + (duration_s or float("inf"))
    over = threading.Event()
    seen: queue.Queue[tuple[str, Envelope] | Exception] = queue.Queue(LIVE_QUEUE)
    drops = [_Drops() for _ in lives]

    def stopped() -> bool:
        return over.is_set() or stopping.stop_requested()

    threads = [
        threading.Thread(target=_watch, args=(live, wanted, stopped, seen, drop), daemon=True)
        for live, drop in zip(lives, drops, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        while not stopped() and time.monotonic() < until:
            try:
                found = seen.get(timeout=0.1)
            except queue.Empty:
                continue
            if isinstance(found, Exception):
                raise RunError(str(found))
            sender(*found)
            tally.dropped = sum(drop.count for drop in drops)
    finally:
        over.set()
        for thread in threads:
            thread.join(1.0)  # one that waits for a camera ends with the process
        tally.dropped = sum(drop.count for drop in drops) + seen.qsize()


@dataclass
class _Drops:
    count: int = 0  # of one thread


def _watch(
    live: Live,
    wanted: Wanted,
    stopped: Callable[[], bool],
    seen: "queue.Queue[tuple[str, Envelope] | Exception]",
    drops: _Drops,
) -> None:
    """Put a camera's frames into the queue, or drop them where it is full; an error ends the run."""
    seldom = Seldom()
    source_id = wanted.source_id or live.name[:MOST_SOURCE_ID]
    try:
        for frame in capture(live, fps=wanted.fps, max_pixels=wanted.max_pixels, stopped=stopped, tell=seldom):
            if seen.full():
                drops.count += 1
                continue
            jpeg = jpeg_of(frame.rgb, wanted.quality)
            envelope = of_frame(jpeg, timestamp_ms=frame.time_ms, source_id=source_id, frame_index=frame.number)
            try:
                seen.put_nowait((live.name, envelope))
            except queue.Full:  # another camera was faster
                drops.count += 1
    except (Refused, ItemError) as error:
        seen.put(error)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
