"""Real object stores for tests: S3, Azure and Google Cloud Storage, each with its own folder and port.

`env` of each has the variables of the environment that object_store (obstore, polars) needs, and no client option
besides: path style is its default.
"""

import base64
import hmac
import http.client
import json
import os
import secrets
import shutil
import subprocess
import tempfile
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NoReturn, Self
from urllib.parse import unquote, urlencode

import pytest

from deploy.buckets import server

HOST = server.HOST
FAKE_GCS = server.Tool("fake-gcs-server", "github.com/fsouza/fake-gcs-server", "", (1, 56, 1), (1, 26))
AZURITE = "3.35.0"

_START_TIMEOUT_S = 60
_FETCH_TIMEOUT_S = 600
_TIMEOUT_S = 30


class _Server:
    """A server in a process of its own, with a folder that goes when it is stopped."""

    def __init__(self) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="buckets-", ignore_cleanup_errors=True)
        self.folder = Path(self._scratch.name)
        (self.port,) = server.free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None

    def _launch(self) -> subprocess.Popen[bytes]:
        raise NotImplementedError

    def start(self) -> Self:
        """Start it; after `kill` on the same port with the same data."""
        try:
            self._process = self._launch()
        except server.ToolMissing as error:
            self._scratch.cleanup()
            _missing(str(error))
        return self

    def kill(self) -> None:
        """End the server at once (SIGKILL)."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            self.kill()
        self._scratch.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class S3(_Server):
    """versitygw. A bucket is a folder, so `x` and `x/y` cannot both be objects; else as S3 does."""

    def __init__(self) -> None:
        super().__init__()
        self.plan = server.prepare(self.folder, self.port)

    @property
    def env(self) -> dict[str, str]:
        """Of the owner of all buckets."""
        return self.plan.env

    def make_bucket(self, name: str) -> str:
        """Make a bucket and return its name."""
        server.make_bucket(self.plan, name)
        return name

    def user(self, access: str, reads: str | None = None) -> dict[str, str]:
        """Make a user and return the user's `env`: with no rights, or those to list and read the bucket `reads`."""
        user = server.make_user(self.plan, access)
        if reads:
            arn = f"arn:aws:s3:::{reads}"
            rule = {"Effect": "Allow", "Principal": {"AWS": [access]}, "Resource": [arn, f"{arn}/*"]}
            policy = {"Statement": [{**rule, "Action": ["s3:GetObject", "s3:ListBucket"]}]}
            status, answer = server.ask(self.plan, "PUT", f"/{reads}", "policy=", json.dumps(policy).encode())
            assert status < 300, answer
        return user.env

    def _launch(self) -> subprocess.Popen[bytes]:
        return server.launch(self.folder)


class Azure(_Server):
    """Azurite."""

    def __init__(self) -> None:
        super().__init__()
        self.account = "labelstream"
        self.key = base64.b64encode(secrets.token_bytes(64)).decode()

    @property
    def env(self) -> dict[str, str]:
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": self.account,
            "AZURE_STORAGE_ACCOUNT_KEY": self.key,
            "AZURE_STORAGE_ENDPOINT": f"http://{HOST}:{self.port}/{self.account}",
            "AZURE_ALLOW_HTTP": "true",
        }

    def make_bucket(self, name: str) -> str:
        """Make a container and return its name."""
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
        lines = "".join(f"{key}:{value}\n" for key, value in headers.items())
        to_sign = "PUT" + 12 * "\n" + f"{lines}/{self.account}/{self.account}/{name}\nrestype:container"
        signature = base64.b64encode(hmac.digest(base64.b64decode(self.key), to_sign.encode(), "sha256")).decode()
        headers["Authorization"] = f"SharedKey {self.account}:{signature}"
        _ask(self.port, "PUT", f"/{self.account}/{name}?restype=container", b"", headers)
        return name

    def _launch(self) -> subprocess.Popen[bytes]:
        main = azurite() / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
        listen = ["--blobHost", HOST, "--blobPort", str(self.port), "--location", str(self.folder)]
        quiet = ["--silent", "--skipApiVersionCheck", "--disableTelemetry"]
        env = {**os.environ, "AZURITE_ACCOUNTS": f"{self.account}:{self.key}"}
        return _spawn([_found("node", "nodejs"), str(main), *listen, *quiet], env, self.port)


class Gcs(_Server):
    """fake-gcs-server, and before it what puts the writes of object_store into the words that it knows."""

    def __init__(self) -> None:
        super().__init__()
        self._words = _Words(self.port)
        threading.Thread(target=self._words.serve_forever, daemon=True).start()

    @property
    def env(self) -> dict[str, str]:
        return {
            "GOOGLE_BASE_URL": f"http://{HOST}:{self._words.server_port}",
            "GOOGLE_BEARER_TOKEN": "any",  # without one the machine's own service of tokens is asked
            "GOOGLE_ALLOW_HTTP": "true",
        }

    def make_bucket(self, name: str) -> str:
        """Make a bucket and return its name."""
        body = json.dumps({"name": name}).encode()
        _ask(self.port, "POST", "/storage/v1/b?project=test", body, {"Content-Type": "application/json"})
        return name

    def stop(self) -> None:
        self._words.shutdown()
        self._words.server_close()
        super().stop()

    def _launch(self) -> subprocess.Popen[bytes]:
        listen = ["-scheme", "http", "-host", HOST, "-port", str(self.port), "-public-host", f"{HOST}:{self.port}"]
        data = ["-log-level", "error", "-backend", "filesystem", "-filesystem-root", str(self.folder / "data")]
        command = [str(server.program(FAKE_GCS)), *listen, *data, "-external-url", f"http://{HOST}:{self.port}"]
        return _spawn(command, dict(os.environ), self.port)


class _Words(ThreadingHTTPServer):
    """Turns `PUT /bucket/key` of Google's XML interface into an upload of the JSON one; all else goes as it came.

    Uploads of one request alone: put with `use_multipart=False`.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__((HOST, 0), _Turned)
        self.upstream = port


class _Turned(BaseHTTPRequestHandler):
    server: _Words
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet for head and body
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        pass

    def _turn(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        method, path = self.command, self.path
        hop = ("host", "connection", "content-length")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in hop}
        put = method == "PUT" and "?" not in path and not path.startswith(("/upload/", "/storage/"))
        if put:
            bucket, _, key = path.lstrip("/").partition("/")
            query = {"uploadType": "media", "name": unquote(key)}
            if generation := self.headers.get("x-goog-if-generation-match"):
                query["ifGenerationMatch"] = generation
            method, path = "POST", f"/upload/storage/v1/b/{bucket}/o?{urlencode(query)}"
        connection = http.client.HTTPConnection(HOST, self.server.upstream, timeout=_TIMEOUT_S)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self.close_connection = True
            return
        finally:
            connection.close()
        self.send_response(answer.status)
        ours = ("content-length", "transfer-encoding", "connection", *(["etag"] if put else []))
        for name, value in answer.getheaders():
            if name.lower() not in ours:
                self.send_header(name, value)
        if put and answer.status == 200:
            made = json.loads(content)
            content = b""
            self.send_header("ETag", f'"{made["etag"]}"'.replace('""', '"'))
            self.send_header("x-goog-generation", made["generation"])
        length = answer.getheader("Content-Length", "0") if method == "HEAD" else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _turn  # noqa: N815 - http.server's names


def azurite() -> Path:
    """Return the folder of Azurite in the user's cache, fetched with npm if it is not there."""
    folder = server.CACHE / f"azurite-{AZURITE}"
    if folder.is_dir():
        return folder
    npm = _found("npm", "npm")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        to = Path(scratch) / "new"
        command = [npm, "install", "--prefix", str(to), "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(
            [*command, f"azurite@{AZURITE}"], capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S, check=False
        )
        if done.returncode:
            raise server.ToolMissing(f"npm could not fetch azurite {AZURITE}: {done.stderr.strip()[-500:]}")
        # Two that fetch at once: the second finds the folder there.
        if not folder.is_dir():
            to.rename(folder)
    return folder


def _found(name: str, package: str) -> str:
    path = shutil.which(name)
    if not path:
        raise server.ToolMissing(f"{name} is needed, and was not found; install it: apt-get install {package}")
    return path


def _spawn(command: list[str], env: dict[str, str], port: int) -> subprocess.Popen[bytes]:
    """Start a server; return when its port answers."""
    process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not server.answers(port):
        assert process.poll() is None, f"{command[0]} ended at once with {process.returncode}"
        if time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise AssertionError(f"{command[0]} did not answer within {_START_TIMEOUT_S} s")
        time.sleep(0.02)
    return process


def _ask(port: int, method: str, path: str, body: bytes, headers: dict[str, str]) -> None:
    connection = http.client.HTTPConnection(HOST, port, timeout=_TIMEOUT_S)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        said = answer.read()
    finally:
        connection.close()
    assert answer.status < 300, said


def _missing(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
