"""The job `models`: what there is, where its weights are, and whether it does what it promises."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import models
from pipelines.logs import run_command
from transforms.models.record import builtin_names, load_record

ROOT = Path(__file__).parents[2]


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the job in this process; return its exit code and what it printed."""
    code = run_command(models.main, list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_list_tells_all_of_every_model(capsys: pytest.CaptureFixture[str]) -> None:
    """Accuracy, weaknesses, cost, and for every file of weights its licence and where it is."""
    code, out, _ = told(capsys, "list")
    assert code == 0
    parts = dict(zip(builtin_names(), out.split("\n\n"), strict=True))
    for name, text in parts.items():
        record = load_record(name)
        assert text.startswith(f"{name} ({record.kind}): ")
        for what in ("accuracy", "weaknesses", "cost"):
            assert f"\n  {what}: " in text
        for part in record.parts:
            assert part.weights is not None
            line = (
                f"\n  weights: {part.weights.file}, sha256 {part.weights.sha256[:12]}, licence {part.weights.licence}, "
            )
            assert line + "at /" in text or line + "not on this machine" in text
    assert "(landmarks)" in parts["landmarks68"]
    assert "members: mini-xception, mini-xception-107, big-xception-54" in parts["xception-ensemble"]
    assert parts["xception-ensemble"].count("weights: ") == 3


def test_list_tells_what_is_missing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of an ensemble's files, not the first one only."""
    monkeypatch.setenv("LABELSTREAM_MODELS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    _, out, _ = told(capsys, "list", "xception-ensemble", "landmarks68")
    assert out.count("not on this machine (see pull)") == 4


def test_check_loads_every_model(capsys: pytest.CaptureFixture[str], shared: Path) -> None:
    """All kinds, and only the detector without a net has nothing to be held to."""
    code, out, err = told(capsys, "check", "--device", "cpu")
    assert (code, err) == (0, "")
    for line, name in zip(out.splitlines(), builtin_names(), strict=True):
        unchecked = "loads; its record names no golden outputs, so its preprocessing was not checked"
        assert line == f"{name}: {unchecked if name == 'none' else 'loads, and gives its golden outputs'}"


def test_check_tells_what_is_not_as_promised(capsys: pytest.CaptureFixture[str], shared: Path, tmp_path: Path) -> None:
    """Another crop for the landmarks: exit code 1, and the others are still checked."""
    record = load_record("landmarks68")
    assert record.golden is not None
    text = record.path.read_text().replace("0.356, 0.660", "0.456, 0.660")
    (tmp_path / "mine.toml").write_text(text)
    (tmp_path / record.golden.name).write_bytes(record.golden.read_bytes())
    code, out, err = told(capsys, "check", str(tmp_path / "mine.toml"), "landmarks68", "--device", "cpu")
    assert code == 1 and out == "landmarks68: loads, and gives its golden outputs\n"
    assert "model 'landmarks68' does not give its golden outputs: expected crops" in err


def test_an_ensemble_whose_member_is_unchecked_says_so(
    capsys: pytest.CaptureFixture[str], shared: Path, tmp_path: Path
) -> None:
    """The mean is as sure as the least sure of its members."""
    own = load_record("mini-xception").path.read_text().replace('golden = "mini-xception.npz"\n', "")
    (tmp_path / "mine.toml").write_text(own)
    text = load_record("xception-ensemble").path.read_text().replace('"mini-xception-107"', '"mine.toml"')
    (tmp_path / "three.toml").write_text(text)
    code, out, _ = told(capsys, "check", str(tmp_path / "three.toml"), "--device", "cpu")
    assert code == 0 and out.endswith("so its preprocessing was not checked\n")


def test_pull_tells_each_files_place(capsys: pytest.CaptureFixture[str], shared: Path) -> None:
    """An ensemble's are its members'; what has no weights says so."""
    code, out, _ = told(capsys, "pull")
    assert code == 0
    lines = dict(line.split(": ", 1) for line in out.splitlines())
    assert list(lines) == list(builtin_names())
    assert lines["none"] == "has no weights"
    assert lines["landmarks68"].endswith("face_landmark_68_model-shard1")
    assert lines["xception-ensemble"].count(".hdf5") == 3


def test_list_needs_no_runtime() -> None:
    """It answers at once: neither ONNX Runtime nor OpenCV nor Beam is loaded for it."""
    code = """
import sys
for name in ("onnxruntime", "cv2", "apache_beam", "onnx", "h5py"):
    sys.modules[name] = None
from pipelines import models
sys.exit(models.main(["list"]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
