"""A real Kafka broker on this machine, without containers: `python deploy/kafka/broker.py start | status | stop`.

The jars come from Maven Central, once, into the user's cache. The broker listens on 127.0.0.1 alone; its log, settings
and data are in one folder.
"""

import argparse
import base64
import hashlib
import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

HOST = "127.0.0.1"
MECHANISMS = ("SCRAM-SHA-512", "PLAIN")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "labelstream"
_HERE = Path(__file__).resolve().parent
_START_TIMEOUT_S = 90
_STOP_TIMEOUT_S = 15
_FETCH_TIMEOUT_S = 600
_HEAP = "256m"
_API_VERSIONS, _CREATE_TOPICS, _TOPIC_EXISTS = 18, 19, 36
_SCRAM_ITERATIONS = 4096  # the least that Kafka takes

_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "num.network.threads": "2",
    "num.io.threads": "2",
    "log.cleaner.dedupe.buffer.size": "4194304",
    "message.max.bytes": "10485760",
    # After a crash the old session must expire first: 9 s by default.
    "broker.session.timeout.ms": "1000",
    "broker.heartbeat.interval.ms": "200",
}


class BrokerError(Exception):
    """What is missing or wrong, and what to do about it."""


class ToolMissing(BrokerError):
    """A program that this machine does not have."""


@dataclass(frozen=True)
class Plan:
    """Where a broker listens. `user` has the same password for both mechanisms; without one there is no TLS port."""

    port: int
    controller_port: int
    sasl_port: int | None = None
    user: str | None = None

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def sasl_address(self) -> str | None:
        return f"{HOST}:{self.sasl_port}" if self.sasl_port else None


# ---- what it is made of


def java() -> str:
    """Return the path of a Java that runs this Kafka (17 or newer). Raises ToolMissing."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    todo = "install it: apt-get install openjdk-17-jre-headless, or brew install openjdk@17, or set JAVA_HOME"
    if not found:
        raise ToolMissing(f"Java 17 or newer is needed, and no java was found; {todo}")
    told = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', told)
    if not version or int(version[1]) < 17:
        raise ToolMissing(f"Java 17 or newer is needed, {found} is {version[1] if version else 'not one'}; {todo}")
    return found


def jars() -> Path:
    """Return the folder of the broker's jars in the user's cache, fetched with Maven if they are not there."""
    version = re.findall(r"<kafka\.version>(.+?)<", (_HERE / "pom.xml").read_text(encoding="utf-8"))[0]
    libs = CACHE / f"kafka-{version}" / "libs"
    if libs.is_dir():
        return libs
    maven = shutil.which("mvn")
    if not maven:
        raise ToolMissing("Maven is needed to fetch Kafka, and no mvn was found; install it: apt-get install maven")
    libs.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=libs.parent) as scratch:
        goal = ["dependency:copy-dependencies", f"-DoutputDirectory={scratch}/libs", "-DincludeScope=runtime"]
        command = [maven, "-q", "-B", "-f", str(_HERE / "pom.xml"), *goal]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            raise BrokerError(f"Maven took more than {_FETCH_TIMEOUT_S} s to fetch Kafka; try again") from None
        if done.returncode:
            said = re.findall(r"\[ERROR\] (.+)", done.stdout)
            raise BrokerError(
                "Maven could not fetch Kafka (44 MB from repo.maven.apache.org); is the network there, does "
                "~/.m2/settings.xml name a proxy that works? It said: " + "".join(said[:1])
            )
        # Two that fetch at once: the second finds the folder there.
        if not libs.is_dir():
            Path(scratch, "libs").rename(libs)
    return libs


# ---- what it is told


def server_settings(folder: Path, plan: Plan, password: str, more: Mapping[str, str]) -> str:
    """Return the text of server.properties."""
    listeners = {"PLAINTEXT": plan.port, "CONTROLLER": plan.controller_port}
    protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
    settings = dict(_SETTINGS)
    if plan.sasl_port:
        listeners["SASL_SSL"], protocols["SASL_SSL"] = plan.sasl_port, "SASL_SSL"
        security = "org.apache.kafka.common.security"
        settings |= {
            "sasl.enabled.mechanisms": ",".join(MECHANISMS),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": f"{folder}/broker.pem",
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": f"{security}.scram.ScramLoginModule required;",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": (
                f'{security}.plain.PlainLoginModule required user_{plan.user}="{password}";'
            ),
        }
    settings |= {
        "controller.quorum.voters": f"1@{HOST}:{plan.controller_port}",
        "listeners": ",".join(f"{name}://{HOST}:{port}" for name, port in listeners.items()),
        "advertised.listeners": ",".join(
            f"{name}://{HOST}:{port}" for name, port in listeners.items() if name != "CONTROLLER"
        ),
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
        "log.dirs": f"{folder}/data",
        **more,
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def client_settings(folder: Path, plan: Plan, password: str) -> str:
    """Return what a client of the TLS port needs, as a properties file that labelstream, kcat and Java's tools take.

    PLAIN, as kcat before librdkafka 2.6.1 (Debian's) cannot do SCRAM with Kafka 4: github.com/confluentinc/librdkafka,
    pull request 4895.
    """
    return (
        "security.protocol=SASL_SSL\n"
        "sasl.mechanism=PLAIN\n"
        f"sasl.username={plan.user}\n"
        f"sasl.password={password}\n"
        f"ssl.ca.location={folder}/ca.pem\n"
    )


def scram_entry(user: str, password: str, salt: bytes) -> str:
    """Return the SCRAM-SHA-512 entry of a user; what stands on a command line must not hold the password."""
    salted = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _SCRAM_ITERATIONS)
    text = {"salt": base64.b64encode(salt).decode(), "saltedpassword": base64.b64encode(salted).decode()}
    inner = "".join(f',{key}="{value}"' for key, value in text.items())
    return f"SCRAM-SHA-512=[name={user}{inner},iterations={_SCRAM_ITERATIONS}]"


def topics_of(text: str) -> dict[str, int]:
    """Parse `frames:2,labels` to the number of partitions of each topic. Raises BrokerError."""
    topics = {}
    for part in filter(None, text.split(",")):
        found = re.fullmatch(r"([A-Za-z0-9._-]{1,249})(?::([1-9]\d{0,3}))?", part)
        if not found:
            raise BrokerError(f"--topics wants name:partitions,name:partitions, not {part!r}")
        topics[found[1]] = int(found[2] or 1)
    return topics


def free_ports(count: int) -> list[int]:
    """Return ports of HOST that nobody listens on.

    Below the ports that systems give to clients (32768 on Linux): while the broker is down, a client's own connection
    could take one of those.
    """
    ports: list[int] = []
    for port in random.sample(range(20_000, 32_000), 200):
        if _is_free(port):
            ports.append(port)
        if len(ports) == count:
            return ports
    raise BrokerError("no free port was found between 20000 and 32000")


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        # As Java does: a port that lingers after its connections were closed is free.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, port))
        except OSError:
            return False
    return True


# ---- its life


def prepare(
    folder: Path,
    port: int,
    sasl_port: int | None = None,
    user: str | None = None,
    password: str = "",
    more: Mapping[str, str] | None = None,
) -> Plan:
    """Write the settings into `folder` and format its data if there is none yet. Raises BrokerError."""
    if sasl_port and not (user and password):
        raise BrokerError("a port with TLS wants a user and a password: --user NAME --password-file FILE")
    if not re.fullmatch(r"[A-Za-z0-9._-]*", user or "") or not re.fullmatch(r"[!#-\[\]-~]*", password):
        raise BrokerError('a user is of letters, digits, ".", "_", "-"; a password of printable ASCII without " and \\')
    folder.mkdir(parents=True, exist_ok=True)
    plan = Plan(port, free_ports(1)[0], sasl_port, user if sasl_port else None)
    formatted = folder / "data" / "meta.properties"
    if formatted.exists() and (before := _recorded(folder)) and plan.user and before.user != plan.user:
        raise BrokerError(f"the data in {folder} were made for another user; delete the folder or name another --dir")
    server = folder / "server.properties"
    _write_secret(server, server_settings(folder, plan, password, more or {}))
    users = []
    if plan.user:
        if not (folder / "ca.pem").exists():
            _make_certificates(folder)
        _write_secret(folder / "client.properties", client_settings(folder, plan, password))
        users = ["--add-scram", scram_entry(plan.user, password, secrets.token_bytes(16))]
    if not formatted.exists():
        cluster = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        # A first character "-" would be taken for an option.
        arguments = ["format", "-t", "A" + cluster[1:], "-c", str(server), *users]
        done = subprocess.run(_java("kafka.tools.StorageTool", *arguments), capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(folder / "data", ignore_errors=True)
            raise BrokerError(f"Kafka could not format {folder}/data: {_tail(done.stderr or done.stdout)}")
    (folder / "broker.json").write_text(json.dumps(asdict(plan)), encoding="utf-8")
    return plan


def launch(folder: Path) -> subprocess.Popen[bytes]:
    """Start the broker that was prepared in `folder`, in a session of its own; return when it answers."""
    plan = _recorded(folder)
    if plan is None:
        raise BrokerError(f"no broker was prepared in {folder}")
    for port in filter(None, (plan.port, plan.sasl_port)):
        if not _is_free(port):
            raise BrokerError(f"port {port} of {HOST} is taken by another program; name another one with --port")
    log = folder / "broker.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            _java("kafka.Kafka", str(folder / "server.properties")),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    (folder / "pid").write_text(str(process.pid), encoding="ascii")
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not _answers(plan.port):
        if process.poll() is not None:
            raise BrokerError(f"the broker ended at once; the end of {log}:\n{_tail(_end_of(log))}")
        if time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise BrokerError(
                f"the broker did not answer within {_START_TIMEOUT_S} s; the end of {log}:\n{_end_of(log)}"
            )
        time.sleep(0.1)
    return process


def stop(folder: Path) -> bool:
    """Stop the broker of `folder`; return whether one ran."""
    pid = running(folder)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while running(folder) is not None:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    return True


def running(folder: Path) -> int | None:
    """Return the process id of the broker of `folder`, None if it does not run."""
    try:
        pid = int((folder / "pid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    # The number may be another program's by now.
    told = subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return pid if str(folder / "server.properties") in told.stdout else None


def create_topics(port: int, topics: Mapping[str, int]) -> None:
    """Create the topics that are not there yet. Raises BrokerError."""
    body = struct.pack(">i", len(topics))
    for name, partitions in topics.items():
        body += _string(name) + struct.pack(">ihii", partitions, 1, 0, 0)
    answer = _ask(port, _CREATE_TOPICS, 2, body + struct.pack(">i?", 30_000, False), timeout_s=40)
    at = 8  # the time it was throttled, the number of topics
    for _ in topics:
        (length,) = struct.unpack_from(">h", answer, at)
        name = answer[at + 2 : at + 2 + length].decode()
        error, text = struct.unpack_from(">hh", answer, at + 2 + length)
        at += 6 + length
        said = answer[at : at + max(text, 0)].decode(errors="replace")
        at += max(text, 0)
        if error not in (0, _TOPIC_EXISTS):
            raise BrokerError(f"the topic {name!r} could not be created: {said or error}")


def _java(main: str, *arguments: str) -> list[str]:
    flags = [
        "-Xms64m",
        f"-Xmx{_HEAP}",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Djava.net.preferIPv4Stack=true",
    ]
    flags.append(f"-Dlog4j2.configurationFile={_HERE / 'log4j2.properties'}")
    return [java(), *flags, "-cp", f"{jars()}/*", main, *arguments]


def _recorded(folder: Path) -> Plan | None:
    try:
        return Plan(**json.loads((folder / "broker.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _make_certificates(folder: Path) -> None:
    """Make a certificate authority (ca.pem) and the broker's key and certificate for this machine (broker.pem)."""
    openssl = shutil.which("openssl")
    if not openssl:
        raise ToolMissing("openssl is needed for a port with TLS; install it: apt-get install openssl")
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "names").write_text(f"subjectAltName=DNS:localhost,IP:{HOST}\n", encoding="ascii")
        new = ["-newkey", "rsa:2048", "-nodes"]
        certificate = ["-days", "3650", "-extfile", "names", "-out", "certificate.pem"]
        for arguments in (
            [
                "req",
                "-x509",
                "-days",
                "3650",
                *new,
                "-keyout",
                "ca.key",
                "-out",
                "ca.pem",
                "-subj",
                "/CN=labelstream test CA",
            ],
            ["req", *new, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=localhost"],
            [
                "x509",
                "-req",
                "-in",
                "request.pem",
                "-CA",
                "ca.pem",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                *certificate,
            ],
        ):
            subprocess.run([openssl, *arguments], cwd=scratch, capture_output=True, check=True)
        parts = [
            (Path(scratch) / name).read_text(encoding="ascii") for name in ("key.pem", "certificate.pem", "ca.pem")
        ]
    _write_secret(folder / "broker.pem", "".join(parts))
    (folder / "ca.pem").write_text(parts[-1], encoding="ascii")


def _write_secret(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)


def _answers(port: int) -> bool:
    try:
        return len(_ask(port, _API_VERSIONS, 0, b"", timeout_s=2)) > 6
    except OSError:
        return False


def _ask(port: int, key: int, version: int, body: bytes, timeout_s: float) -> bytes:
    """Send one request of Kafka's protocol and return the answer's body. Raises OSError."""
    request = struct.pack(">hhi", key, version, 1) + _string("labelstream") + body
    with socket.create_connection((HOST, port), timeout=timeout_s) as sock, sock.makefile("rb") as stream:
        sock.sendall(struct.pack(">i", len(request)) + request)
        head = stream.read(8)
        if len(head) < 8:
            raise ConnectionError("the connection was closed")
        return stream.read(struct.unpack(">i", head[:4])[0] - 4)


def _string(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode("ascii")


def _end_of(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-4000:]


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-8:])


# ---- the command


def _start(options: argparse.Namespace) -> None:
    folder, topics = _folder(options), topics_of(options.topics)
    pid = running(folder)
    if pid is None:
        if not _is_free(options.port):
            raise BrokerError(
                f"port {options.port} of {HOST} is taken by another program; name another one with --port, or see "
                f"whose it is: lsof -i :{options.port}"
            )
        password = Path(options.password_file).read_text(encoding="utf-8").strip() if options.password_file else ""
        more = dict(text.split("=", 1) for text in options.set)
        print("starting Kafka (the first time its jars are fetched: 44 MB)", flush=True)
        prepare(folder, options.port, options.sasl_port, options.user, password, more)
        pid = launch(folder).pid
        print(f"Kafka runs: process {pid}, log {folder / 'broker.log'}")
    else:
        print(f"Kafka is already running: process {pid}, log {folder / 'broker.log'}")
    plan = _recorded(folder)
    assert plan is not None  # it was just started from there
    create_topics(plan.port, topics)
    _say(folder, plan, list(topics))


def _say(folder: Path, plan: Plan, topics: Sequence[str]) -> None:
    servers = f"localhost:{plan.port}"
    source, results = [*topics, "frames", "labels"][:2] if len(topics) != 1 else (topics[0], "labels")
    print(f"  address    {servers}")
    if plan.sasl_port:
        print(f"  with TLS   localhost:{plan.sasl_port}, user {plan.user}, settings in {folder / 'client.properties'}")
    if topics:
        print(f"  topics     {', '.join(topics)}")
    print(f"  feed it    python -m pipelines.produce --input FOLDER --to kafka://{servers}/{source}")
    print(
        f"  label it   python -m pipelines.annotate --input kafka://{servers}/{source} --output out/ "
        f"--results kafka://{servers}/{results}"
    )
    print(f"  look       kcat -b {servers} -C -t {results} -o beginning -e -X isolation.level=read_committed")
    print(f"  stop it    python deploy/kafka/broker.py stop --dir {folder}")


def _stop(options: argparse.Namespace) -> None:
    print("Kafka was stopped" if stop(_folder(options)) else f"no Kafka runs in {_folder(options)}")


def _status(options: argparse.Namespace) -> None:
    folder = _folder(options)
    pid, plan = running(folder), _recorded(folder)
    if pid is None or plan is None:
        raise BrokerError(f"no Kafka runs in {folder}; start it: python deploy/kafka/broker.py start --dir {folder}")
    print(f"Kafka runs: process {pid}, log {folder / 'broker.log'}, answers: {'yes' if _answers(plan.port) else 'no'}")
    _say(folder, plan, ())


def _folder(options: argparse.Namespace) -> Path:
    return Path(options.dir).resolve()


def _setting(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9._-]+=[^\n]*", text):
        raise argparse.ArgumentTypeError(f"a broker's setting is NAME=VALUE, not {text!r}")
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="start|stop|status")
    run: dict[str, Callable[[argparse.Namespace], None]] = {"start": _start, "stop": _stop, "status": _status}
    for name, text in (("start", "start a broker"), ("stop", "stop it"), ("status", "say whether it runs")):
        command = commands.add_parser(name, help=text)
        command.add_argument(
            "--dir", default=".kafka", help="the folder of its data, settings and log (default .kafka)"
        )
        if name == "start":
            command.add_argument("--port", type=int, default=9092, help="where it listens (default 9092)")
            command.add_argument("--topics", default="", help="topics to create, as frames:2,labels:2")
            command.add_argument("--sasl-port", type=int, help="a second port: TLS, with user and password")
            command.add_argument("--user", help="the user of the port with TLS")
            command.add_argument("--password-file", help="the file that holds the user's password")
            command.add_argument("--set", type=_setting, action="append", default=[], help="a setting of the broker")
    options = parser.parse_args(arguments)
    try:
        run[options.command](options)
    except (BrokerError, OSError, UnicodeDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
