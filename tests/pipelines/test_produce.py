"""A topic is fed, and dead letters are brought back, with a real broker; kcat is the witness."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipelines.logs import run_command
from pipelines.produce import main
from schemas.messages import DEAD_ERROR, DEAD_HEADERS
from tests.brokers import Broker
from tests.extras import program
from tests.transforms.rtsp import Camera
from tests.videos import MAX_PIXELS, encode
from transforms.kafka.access import Access
from transforms.kafka.clients import admin, producer
from transforms.kafka.reader import Reader
from transforms.messages import AllowedRoots, Record, arrivals
from transforms.video import read_frames

NOW_MS = 1_790_000_000_000


@dataclass(frozen=True)
class Seen:
    """A message as kcat shows it."""

    partition: int
    offset: int
    key: str
    size: int
    headers: dict[str, str]


def _read(address: str, topic: str, form: str, *options: str) -> bytes:
    quick = ["-X", "isolation.level=read_committed", "-X", "fetch.wait.max.ms=10"]
    command = [program("kcat"), "-b", address, "-C", "-t", topic, "-e", "-q", "-o", "beginning", *quick, *options]
    return subprocess.run([*command, "-f", form], check=True, capture_output=True, timeout=30).stdout


def _kcat(address: str, topic: str, *options: str) -> list[Seen]:
    seen = []
    for line in _read(address, topic, "%p\t%o\t%k\t%S\t%h\n", *options).decode().splitlines():
        partition, offset, key, size, headers = line.split("\t")
        pairs = [pair.partition("=") for pair in headers.split(",") if pair]
        seen.append(Seen(int(partition), int(offset), key, int(size), {name: value for name, _, value in pairs}))
    return sorted(seen, key=lambda each: (each.partition, each.offset))


def _brought(broker: Broker, topic: str, count: int) -> list[Seen]:
    """Return a topic's messages; those of a transaction are visible a moment after its commit was acknowledged."""
    until = time.monotonic() + 10
    while len(seen := _kcat(broker.address, topic)) < count and time.monotonic() < until:
        time.sleep(0.05)
    return seen


def _values(address: str, topic: str) -> list[bytes]:
    """Return the values of a topic's messages, by partition and offset."""
    told = _read(address, topic, "%p %o %S\n%s")
    found, at = {}, 0
    while at < len(told):
        line, at = told[at : (end := told.index(b"\n", at))], end + 1
        partition, offset, size = map(int, line.split())
        found[partition, offset] = told[at : at + size]
        at += size
    return [found[place] for place in sorted(found)]


def _run(*argv: object) -> int:
    return run_command(main, [str(each) for each in argv])


def _name() -> str:
    return f"t{secrets.token_hex(5)}"


def _pictures(folder: Path, sides: Sequence[int]) -> list[Path]:
    """Write pictures of noise: a side of 100 has 30 kB."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(1)
    paths = [folder / f"{number:04}.png" for number in range(len(sides))]
    for path, side in zip(paths, sides, strict=True):
        Image.fromarray(rng.integers(0, 255, (side, side, 3), np.uint8)).save(path)
        os.utime(path, ns=(NOW_MS * 1_000_000, NOW_MS * 1_000_000))
    return paths


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = encode(tmp_path_factory.mktemp("clip") / "clip.mp4", count=40, rate=25)
    os.utime(path, ns=(NOW_MS * 1_000_000, NOW_MS * 1_000_000))
    return path


def test_pictures_arrive_whole_and_say_what_they_are(
    broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One message a file, its bytes untouched; the topic is made. A text is passed over, a broken name is told."""
    topic = _name()
    paths = _pictures(tmp_path / "in", [20, 30, 40])
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    (tmp_path / "in" / "page.bin").write_text("no picture either")
    code = _run("--input", tmp_path / "in", "--to", f"kafka://{broker.address}/{topic}", "--partitions", 3)
    told = capsys.readouterr().err
    assert code == 1
    assert f"made the topic {topic} with 3 partitions" in told
    assert f"{tmp_path}/in/page.bin: not sent: expected a picture or a video, found text" in told
    assert told.splitlines()[-1].startswith("3 messages, ")
    assert told.splitlines()[-1].endswith("0 dropped, 1 not sent")
    for seen in _kcat(broker.address, topic):
        assert seen.headers == {
            "labelstream-version": "1",
            "content-type": "image/png",
            "timestamp-ms": str(NOW_MS),
        }
    assert sorted(_values(broker.address, topic)) == sorted(path.read_bytes() for path in paths)


def test_a_videos_frames_arrive_in_order_with_their_times(broker: Broker, clip: Path, tmp_path: Path) -> None:
    """They are those that an annotated data set has, in one partition."""
    topic = broker.create_topic(_name(), partitions=4)
    assert _run("--input", clip, "--to", f"kafka://{broker.address}/{topic}") == 0
    frames = list(read_frames(str(clip), max_pixels=MAX_PIXELS))
    seen = _kcat(broker.address, topic)
    assert [each.headers["frame-index"] for each in seen] == [str(frame.moment.frame) for frame in frames]
    assert [int(each.headers["timestamp-ms"]) for each in seen] == [
        NOW_MS + round(frame.moment.pts_ms) for frame in frames
    ]
    assert {(each.partition, each.key, each.headers["source-id"]) for each in seen} == {
        (seen[0].partition, "clip.mp4", "clip.mp4")
    }
    for value, frame in list(zip(_values(broker.address, topic), frames, strict=True))[::8]:
        rgb = cv2.imdecode(np.frombuffer(value, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert np.abs(rgb.astype(int) - frame.rgb).mean() < 8


def test_frames_are_sampled_and_named_as_asked_for(broker: Broker, clip: Path) -> None:
    """Five a second of 1.6 s are eight, from the time that the camera began."""
    topic = broker.create_topic(_name())
    options = ["--fps", 5, "--source-id", "door 1", "--start-time", "2026-01-31T12:00:00+01:00"]
    assert _run("--input", clip, *options, "--to", f"kafka://{broker.address}/{topic}") == 0
    seen = _kcat(broker.address, topic)
    assert [each.headers["frame-index"] for each in seen] == [str(number) for number in range(0, 40, 5)]
    assert seen[1].headers["timestamp-ms"] == str(1_769_857_200_000 + 200)
    assert {each.headers["source-id"] for each in seen} == {"door 1"}


def test_a_file_over_the_limit_is_told_and_goes_as_a_name_if_asked(
    broker: Broker, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are sent all the same; with --references everything is small, and our reader finds the files."""
    topic, names = broker.create_topic(_name()), broker.create_topic(_name())
    paths = _pictures(tmp_path / "in", [20, 100])
    inputs = ["--input", tmp_path / "in", "--max-message-bytes", 10_000]
    assert _run(*inputs, "--to", f"kafka://{broker.address}/{topic}") == 1
    assert f"{paths[1]}: not sent: its " in (told := capsys.readouterr().err)
    assert "or send names with --references" in told
    assert len(_kcat(broker.address, topic)) == 1
    assert _run(*inputs, "--input", clip, "--references", "--to", f"kafka://{broker.address}/{names}") == 0
    found = [
        arrivals(Record(names, 0, 0, NOW_MS, None, value, ()), AllowedRoots(("/",), ()))[0]
        for value in _values(broker.address, names)
    ]
    assert [(each.uri, each.timestamp_ms) for each in found] == [(str(path), NOW_MS) for path in (*paths, clip)]


def test_frames_over_the_limit_fail_one_by_one(broker: Broker, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is told and counted; the video goes on."""
    topic = broker.create_topic(_name())
    argv = ["--input", clip, "--max-message-bytes", 500, "--fps", 5]
    assert _run(*argv, "--to", f"kafka://{broker.address}/{topic}") == 1
    told = capsys.readouterr().err
    assert told.count("are over the limit of 500 (--max-message-bytes)") == 8
    assert told.splitlines()[-1].endswith("8 not sent")


def test_a_message_that_the_topic_refuses_fails_alone(
    broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The client's producer dies of it; those before and behind arrive once, in order."""
    topic = broker.create_topic(_name(), max_message_bytes="50000")
    sides = [200 if number % 7 == 3 else 20 + number for number in range(30)]
    paths = _pictures(tmp_path / "in", sides)
    assert _run("--input", tmp_path / "in", "--to", f"kafka://{broker.address}/{topic}") == 1
    told = capsys.readouterr().err
    small = [path for path, side in zip(paths, sides, strict=True) if side < 200]
    assert [seen.size for seen in _kcat(broker.address, topic)] == [path.stat().st_size for path in small]
    assert told.count(f"are more than the topic {topic} takes (max.message.bytes)") == 4
    assert "26 messages" in told.splitlines()[-1]


def test_it_is_not_faster_than_asked_for(broker: Broker, clip: Path) -> None:
    """Eight messages at eight a second take most of a second."""
    topic = broker.create_topic(_name())
    began = time.monotonic()
    assert _run("--input", clip, "--fps", 5, "--rate", 8, "--to", f"kafka://{broker.address}/{topic}") == 0
    assert 7 / 8 - 0.05 <= time.monotonic() - began < 5


def test_a_cameras_frames_arrive_without_its_password(broker: Broker, tmp_path: Path) -> None:
    """A list keeps it off the command line; it is in no header, no key and no line of the log."""
    topic = broker.create_topic(_name())
    with Camera(login="alice:tr0ub4dor") as camera:
        listed = tmp_path / "cameras.txt"
        listed.write_text(f"# the door\n{camera.url}\n")
        options = ["--fps", "10", "--duration", "1.5", "--to", f"kafka://{broker.address}/{topic}"]
        ended = _produce("--input", f"@{listed}", *options).communicate(timeout=20)[0]
    seen = _kcat(broker.address, topic)
    assert 5 <= len(seen) <= 20
    name = f"rtsp://127.0.0.1:{camera.port}/door"
    assert {(each.key, each.headers["source-id"], each.headers["content-type"]) for each in seen} == {
        (name, name, "image/jpeg")
    }
    numbers = [int(each.headers["frame-index"]) for each in seen]
    assert numbers == sorted(set(numbers))
    assert "tr0ub4dor" not in ended + repr(seen)
    assert f"{len(seen)} messages" in ended.splitlines()[-1]


def test_a_wrong_password_of_a_camera_ends_the_run(broker: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    """The text names the camera without it; that others could see it was told."""
    topic = broker.create_topic(_name())
    with Camera(login="alice:tr0ub4dor") as camera:
        wrong = camera.url.replace("tr0ub4dor", "correcthorse")
        assert _run("--input", wrong, "--to", f"kafka://{broker.address}/{topic}") == 1
    told = capsys.readouterr().err
    assert "refuses this user or password" in told
    assert "use --input @list.txt" in told
    assert "correcthorse" not in told


def test_frames_that_the_broker_is_too_slow_for_are_dropped(broker: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    """A camera does not wait, and memory does not fill: what did not go out is counted."""
    topic = broker.create_topic(_name())
    with Camera(fps=100) as camera:
        argv = ["--input", camera.url, "--rate", 5, "--duration", 2.5, "--source-id", "door"]
        assert _run(*argv, "--to", f"kafka://{broker.address}/{topic}") == 0
    last = capsys.readouterr().err.splitlines()[-1]
    seen = _kcat(broker.address, topic)
    assert f"{len(seen)} messages, " in last
    assert len(seen) < 15
    assert int(last.split("; ")[1].split()[0]) > 80
    assert {each.key for each in seen} == {"door"}


def test_a_folder_without_pictures_is_misuse(broker: Broker, tmp_path: Path) -> None:
    """A typing error shall not look like success."""
    topic = broker.create_topic(_name())
    assert _run("--input", tmp_path, "--to", f"kafka://{broker.address}/{topic}") == 2


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--input", "here", "--replay", "kafka://h/dead", "--to", "kafka://h/t"], "not allowed with"),
        (["--to", "kafka://h/t"], "one of the arguments --input --replay is required"),
        (["--input", ".", "--error", "corrupt", "--to", "kafka://h/t"], "--error goes with --replay"),
        (["--replay", "kafka://h/d", "--fps", "2", "--to", "kafka://h/t"], "--fps goes with --input"),
        (["--input", ".", "--duration", "2", "--to", "kafka://h/t"], "--duration is for cameras"),
        (["--input", ".", "--to", "kafka://alice:s3cret@h/t"], "do not belong into an address"),
        (["--input", ".", "--to", "kafka://h/a,b"], "must name one topic"),
        (["--input", ".", "--start-time", "noon", "--to", "kafka://h/t"], "expected a time"),
        (["--input", "rtsps://a:s3cret@h/1", "--to", "kafka://h/t"], "rtsps:// is no input here"),
        (["--input", ".", "--source-id", "", "--to", "kafka://h/t"], "source id"),
        (["--input", "rtsp://a:s3cret@h/1", "--input", "rtsp://b:s3cret@h/1", "--to", "kafka://h/t"], "same address"),
    ],
)
def test_misuse_is_told_before_anything_is_asked_of_a_broker(
    argv: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and no password is repeated."""
    assert _run(*argv) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "s3cret" not in error


def test_a_list_of_cameras_names_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files in it would be sent by a job that never comes to them; passwords in it are not repeated."""
    listed = tmp_path / "list.txt"
    for lines, told in (
        ("rtsp://a:s3cret@h/1\n.\n", "make it two lists"),
        ("http://a:s3cret@h\n", "http:// is no input"),
    ):
        listed.write_text(lines)
        assert _run("--input", f"@{listed}", "--to", "kafka://h/t") == 2
        error = capsys.readouterr().err
        assert told in error
        assert "s3cret" not in error


def test_a_broker_with_passwords_is_fed_by_a_file_of_settings(broker: Broker, tmp_path: Path) -> None:
    """The file is the one that kcat takes."""
    topic = broker.create_topic(_name())
    _pictures(tmp_path / "in", [20])
    to = ["--to", f"kafka://{broker.sasl_address}/{topic}", "--kafka-config", broker.client_file]
    assert _run("--input", tmp_path / "in", *to) == 0
    assert len(_kcat(broker.sasl_address, topic, "-F", str(broker.client_file))) == 1


def _produce(*argv: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-W", "ignore", "-m", "pipelines.produce", *map(str, argv)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def mortal() -> Iterator[Broker]:
    """A broker that may be killed."""
    with Broker() as running:
        yield running


def _wait_for(broker: Broker, *topics: str) -> None:
    """Wait until each topic has some messages."""
    reader, until = Reader(broker.address, Access()), time.monotonic() + 20
    places = [(topic, 0) for topic in topics]
    while min(reader.extent(places).ends.values()) < 3:
        assert time.monotonic() < until
        time.sleep(0.05)
    reader.close()


def test_a_broker_that_dies_in_the_middle_is_waited_for(mortal: Broker, tmp_path: Path) -> None:
    """Every message is there once when it is back; a stop while it is away ends in seconds and tells what is open."""
    topic, other = mortal.create_topic(_name()), mortal.create_topic(_name())
    paths = _pictures(tmp_path / "in", [20 + number for number in range(30)])
    feeding, stopped = (
        _produce("--input", tmp_path / "in", "--rate", 10, "--to", f"kafka://{mortal.address}/{name}")
        for name in (topic, other)
    )
    _wait_for(mortal, topic, other)
    mortal.kill()
    time.sleep(0.5)
    stopped.send_signal(signal.SIGTERM)
    told = stopped.communicate(timeout=8)[0]
    assert stopped.returncode == 1
    assert "were sent but not acknowledged" in told
    assert told.splitlines()[-1].startswith("stopped: ")
    mortal.restart()
    told = feeding.communicate(timeout=60)[0]
    assert feeding.returncode == 0
    assert told.splitlines()[-1].startswith("30 messages")
    assert [seen.size for seen in _kcat(mortal.address, topic)] == [path.stat().st_size for path in paths]


def _topics(broker: Broker) -> list[str]:
    with admin(broker.address, Access()) as client:
        return list(client.list_topics())


def _bury(broker: Broker, topic: str, letters: Sequence[tuple[bytes | None, str]]) -> None:
    sender = producer(broker.address, Access())
    why = [(name, b"why") for name in DEAD_HEADERS if name != DEAD_ERROR]
    sent = [
        sender.send(
            topic, value, key=value or b"bare", headers=[("source-id", b"door"), *why, (DEAD_ERROR, error.encode())]
        )
        for value, error in letters
    ]
    for future in sent:
        future.get(timeout=30)
    sender.close(timeout=5)


def test_dead_letters_come_back_once(broker: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    """A second replay sends only what has died since; those of one error first, then the others, none twice."""
    dead, topic = broker.create_topic(_name(), partitions=3), _name()
    argv = ["--replay", f"kafka://{broker.address}/{dead}", "--to", f"kafka://{broker.address}/{topic}"]
    _bury(broker, dead, [(b"%d" % number, "corrupt" if number % 3 else "too_large") for number in range(30)])
    assert _run(*argv, "--error", "too_large") == 0
    assert "10 dead letters brought back, 20 passed over" in capsys.readouterr().err
    assert {int(seen.key) % 3 for seen in _brought(broker, topic, 10)} == {0}
    assert _run(*argv) == 0
    assert "20 dead letters brought back, 10 passed over" in capsys.readouterr().err
    assert _run(*argv) == 0
    assert "0 dead letters brought back, 0 passed over" in capsys.readouterr().err
    _bury(broker, dead, [(b"new", "corrupt")])
    assert _run(*argv, "--error", "corrupt") == 0
    seen = _brought(broker, topic, 31)
    assert sorted(each.key for each in seen) == sorted([*map(str, range(30)), "new"])
    assert all(each.headers == {"source-id": "door"} for each in seen)


def test_a_letter_without_a_value_stays_where_it_is(broker: Broker, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty message would only die again; the reader is told where the first one was."""
    dead, topic = broker.create_topic(_name()), _name()
    _bury(broker, dead, [(None, "too_large"), (b"1", "corrupt")])
    assert _run("--replay", f"kafka://{broker.address}/{dead}", "--to", f"kafka://{broker.address}/{topic}") == 0
    assert "1 dead letters brought back, 1 passed over (1 have no value" in capsys.readouterr().err
    assert [seen.key for seen in _brought(broker, topic, 1)] == ["1"]


def test_a_topic_made_anew_is_another_topic(broker: Broker) -> None:
    """What was brought back of the old one says nothing of it; another target has its own memory."""
    dead, topic, other = broker.create_topic(_name()), _name(), _name()
    argv = ["--replay", f"kafka://{broker.address}/{dead}", "--to"]
    _bury(broker, dead, [(b"1", "corrupt")])
    assert _run(*argv, f"kafka://{broker.address}/{topic}") == 0
    assert _run(*argv, f"kafka://{broker.address}/{other}") == 0
    with admin(broker.address, Access()) as client:
        client.delete_topics([dead])
    until = time.monotonic() + 10
    while time.monotonic() < until and dead in _topics(broker):
        time.sleep(0.05)
    broker.create_topic(dead)
    _bury(broker, dead, [(b"2", "corrupt")])
    assert _run(*argv, f"kafka://{broker.address}/{topic}") == 0
    assert [seen.key for seen in _brought(broker, topic, 2)] in (["1", "2"], ["2", "1"])
    assert [seen.key for seen in _brought(broker, other, 1)] == ["1"]
