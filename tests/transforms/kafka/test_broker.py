"""The broker of `make kafka`: what it says, what it keeps, and what it says where something is missing."""

import base64
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.kafka import broker as tool
from tests.brokers import Broker
from tests.extras import program
from transforms.kafka.access import Access, read_access
from transforms.kafka.clients import admin, require_broker, require_topics

TOOL = [sys.executable, str(Path(tool.__file__))]
ENVIRONMENT = {**os.environ, "XDG_CACHE_HOME": str(tool.CACHE.parent)}


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the tool as a person does; it never shows a traceback."""
    done = subprocess.run(
        [*TOOL, *arguments], capture_output=True, text=True, timeout=60, env=ENVIRONMENT | environment, check=False
    )
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def folder(tmp_path: Path, broker: Broker) -> Iterator[Path]:
    """A folder for a broker of its own, which is stopped whatever happens; jars and Java are known to be there."""
    yield tmp_path
    tool.stop(tmp_path)


def test_a_broker_starts_says_what_to_do_outlives_a_crash_and_stops(folder: Path) -> None:
    """One life: start, start again, kill, start with its data, stop; with a port that wants a password."""
    port, sasl_port = map(str, tool.free_ports(2))
    (folder / "password").write_text("hush-1234\n", encoding="utf-8")
    where = ["--dir", str(folder)]
    sasl = ["--sasl-port", sasl_port, "--user", "alice", "--password-file", str(folder / "password")]

    first = command("start", *where, "--port", port, "--topics", "frames:2,labels", *sasl)
    assert first.returncode == 0, first.stderr
    assert (
        f"--input kafka://localhost:{port}/frames --output out/ --results kafka://localhost:{port}/labels"
        in first.stdout
    )
    assert "hush" not in first.stdout + first.stderr
    require_broker(f"localhost:{port}", Access())
    settings = folder / "client.properties"
    assert settings.stat().st_mode & 0o77 == 0
    require_broker(f"localhost:{sasl_port}", read_access(str(settings), {}))
    with admin(f"localhost:{port}", Access()) as client:
        topics = require_topics(client, ["frames", "labels"])
        assert [len(each["partitions"]) for each in client.describe_topics(["frames", "labels"])] == [2, 1]

    again = command("start", *where, "--port", port, "--topics", "frames:2,more:3")
    assert again.returncode == 0
    assert "already running" in again.stdout
    assert command("status", *where).returncode == 0

    pid = tool.running(folder)
    assert pid
    os.kill(pid, signal.SIGKILL)
    while tool.running(folder):
        pass
    assert "no Kafka runs" in command("status", *where).stderr
    other = command("start", *where, "--port", port, "--sasl-port", sasl_port, "--user", "bob", *sasl[4:])
    assert "another user" in other.stderr
    assert command("start", *where, "--port", port, *sasl).returncode == 0
    with admin(f"localhost:{port}", Access()) as client:
        assert require_topics(client, ["frames", "labels", "more"]).items() >= topics.items()

    assert "was stopped" in command("stop", *where).stdout
    assert "no Kafka runs" in command("stop", *where).stdout


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    """With what to do, before anything is fetched or made."""
    with socket.create_server((tool.HOST, 0)) as taken:
        done = command("start", "--dir", str(tmp_path), "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "is taken by another program; name another one with --port" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_machine_without_java_or_maven_is_told(tmp_path: Path) -> None:
    """With the command that installs it."""
    start = ["start", "--dir", str(tmp_path / "data"), "--port", str(tool.free_ports(1)[0])]
    missing = command(*start, PATH=str(tmp_path), JAVA_HOME="")
    assert missing.returncode == 1
    assert "Java 17 or newer is needed" in missing.stderr
    assert "apt-get install" in missing.stderr

    (tmp_path / "java").write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019' >&2\n", encoding="ascii")
    (tmp_path / "java").chmod(0o755)
    assert "java is 11;" in command(*start, PATH=str(tmp_path), JAVA_HOME="").stderr

    (tmp_path / "java").unlink()
    (tmp_path / "java").symlink_to(program("java"))
    told = command(*start, PATH=str(tmp_path), JAVA_HOME="", XDG_CACHE_HOME=str(tmp_path)).stderr
    assert "Maven is needed" in told


def test_jars_that_cannot_be_fetched_are_told_and_leave_nothing(tmp_path: Path) -> None:
    """Maven's own reason is passed on in one line; the next start tries again."""
    program("mvn")
    broken = f"-Dmaven.repo.local={tmp_path}/repository -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=1"
    start = ["start", "--dir", str(tmp_path / "data"), "--port", str(tool.free_ports(1)[0])]
    done = command(*start, MAVEN_OPTS=broken, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 1
    assert "Maven could not fetch Kafka" in done.stderr
    assert re.search(r"It said: .{20}", done.stderr)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.name == "libs" or path.suffix == ".jar"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--topics", "frames:none"], "not 'frames:none'"),
        (["--sasl-port", "19999"], "--user NAME --password-file FILE"),
        (["--set", "nonsense"], "NAME=VALUE"),
        (["--sasl-port", "19999", "--user", "alice", "--password-file", "absent"], "absent"),
        (["--sasl-port", "19999", "--user", 'a"b', "--password-file", __file__], "printable ASCII"),
    ],
)
def test_a_wrong_option_is_told(tmp_path: Path, arguments: list[str], told: str) -> None:
    """In one line, and nothing is started."""
    program("java")
    port = str(tool.free_ports(1)[0])
    done = command("start", "--dir", str(tmp_path), "--port", port, *arguments, XDG_CACHE_HOME=str(tool.CACHE.parent))
    assert done.returncode in (1, 2)
    assert told in done.stderr
    assert tool.running(tmp_path) is None


@given(st.dictionaries(st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True), st.integers(1, 9999), min_size=1))
def test_topics_are_read_as_they_are_written(topics: dict[str, int]) -> None:
    """Whatever their names and numbers."""
    assert tool.topics_of(",".join(f"{name}:{partitions}" for name, partitions in topics.items())) == topics


def test_what_stands_on_a_command_line_opens_nothing() -> None:
    """The entry of a user proves the password to the broker and does not hold it."""
    entry = tool.scram_entry("alice", "hush-1234", b"salt" * 4)
    assert "hush" not in entry
    salted = re.findall(r'saltedpassword="(.+?)"', entry)[0]
    assert base64.b64decode(salted) == hashlib.pbkdf2_hmac("sha512", b"hush-1234", b"salt" * 4, 4096)


def test_a_process_that_took_over_the_number_is_not_stopped(tmp_path: Path) -> None:
    """After a restart of the machine the noted number may be anybody's."""
    (tmp_path / "pid").write_text(str(os.getpid()), encoding="ascii")
    assert tool.running(tmp_path) is None
    assert not tool.stop(tmp_path)
