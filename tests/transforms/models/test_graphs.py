"""Graphs built from published weights give what the original frameworks give."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.errors import RunError
from transforms.models import graphs, weights
from transforms.models.face_api import read_landmarks68
from transforms.models.record import ModelRecord
from transforms.models.runtime import CPU, Net

Model = Callable[[str], ModelRecord]
Original = dict[str, NDArray[np.float32]]


@pytest.mark.parametrize(
    ("name", "key"), [("mini-xception", "mini"), ("mini-xception-107", "mini107"), ("big-xception-54", "big")]
)
def test_an_xception_agrees_with_keras(name: str, key: str, model: Model, original: Original) -> None:
    """To 1e-5, on faces and on noise; measured 1.3e-6."""
    record = model(name)
    net = Net(graphs.OF_CROPS[record.family](weights.find(record), record.input), CPU, 8)
    (found,) = net.run(original["mini.pixels"][..., None], ["probabilities"])
    np.testing.assert_allclose(found, original[f"{key}.probabilities"], atol=1e-5)


def test_landmarks68_agrees_with_face_api(model: Model, original: Original) -> None:
    """To 1e-6 of the crop, on faces and on noise; measured 2.7e-7."""
    record = model("landmarks68")
    net = Net(graphs.landmarks68(weights.find(record), record.input), CPU, 8)
    assert record.golden is not None
    with np.load(record.golden) as stored:
        pairs = [(original["landmarks68.pixels"], original["landmarks68.points"]), (stored["crops"], stored["points"])]
    for pixels, points in pairs:
        (found,) = net.run(pixels, ["points"])
        np.testing.assert_allclose(found.reshape(-1, 68, 2), points, atol=1e-6, rtol=0)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_landmark_shard_is_read_whole_or_not_at_all(change: int, tmp_path: Path) -> None:
    """One byte too few or too many is an error, and so is no byte."""
    for size in (356_840 + change, 0):
        (tmp_path / "shard").write_bytes(bytes(size))
        with pytest.raises(RunError, match=f"shard: expected 356840 bytes, got {size}"):
            read_landmarks68(tmp_path / "shard")


def test_a_landmark_shard_is_dequantised_entry_by_entry(tmp_path: Path) -> None:
    """Byte 0 is the entry's least value, each step more its scale: the first kernel and the last bias by hand."""
    (tmp_path / "shard").write_bytes(bytes(356_840 - 136) + bytes([10]) * 136)
    arrays = read_landmarks68(tmp_path / "shard")
    assert arrays["dense0/conv0/filters"].shape == (3, 3, 3, 32)
    assert (arrays["dense0/conv0/filters"] == np.float32(-0.5872879935245888)).all()
    assert (arrays["fc/bias"] == np.float32(10 * 0.0025084222648658005 + 0.07683877646923065)).all()


@pytest.mark.parametrize(("name", "outputs"), [("pnet", 2), ("rnet", 2), ("onet", 3)])
def test_mtcnn_agrees_with_tensorflow(name: str, outputs: int, model: Model, original: Original) -> None:
    """To 1e-5, PReLU rewritten and all; measured 2.6e-6."""
    record = model("mtcnn")
    net = Net(getattr(graphs, name)(weights.find(record), record.input), CPU, 8)
    names = ("face", "box", "points")[:outputs]
    for output, found in zip(names, net.run(original[f"{name}.pixels"], names), strict=True):
        np.testing.assert_allclose(found, original[f"{name}.{output}"], atol=1e-5)


def test_both_publications_of_mtcnn_hold_the_same_numbers(model: Model) -> None:
    """The installed package's pickles and face-api.js's shard, bit for bit."""
    record = model("mtcnn")
    assert record.weights is not None
    package = weights._package_folder(record.weights.sources[0])
    shard = weights.find(record)
    if not isinstance(package, Path) or shard.is_dir():
        pytest.skip("only one of the two is on this machine")
    one, other = graphs.read_mtcnn(package), graphs.read_mtcnn(shard)
    for net in one:
        pairs = [*zip(one[net].hidden, other[net].hidden, strict=True)]
        pairs += [(one[net].heads[width], other[net].heads[width]) for width in one[net].heads]  # type: ignore[misc]
        for mine, theirs in pairs:
            for a, b in zip(mine, theirs, strict=True):
                np.testing.assert_array_equal(a, b)


def test_a_shard_that_is_too_long_or_too_short_is_an_error(tmp_path: Path) -> None:
    """It is read whole or not at all."""
    with pytest.raises(RunError, match="expected 495850 numbers, got 495851"):
        graphs._from_shard(np.zeros(495_851, np.float32), tmp_path)


def test_a_pickle_makes_arrays_and_nothing_else() -> None:
    """A pickle that names a function is refused before the function is called."""

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("called",)

    with pytest.raises(pickle.UnpicklingError, match="only numpy arrays are admitted"):
        graphs.unpickle_arrays(pickle.dumps([Evil()]))
    with pytest.raises(pickle.UnpicklingError, match="expected a list of numpy arrays"):
        graphs.unpickle_arrays(pickle.dumps([1, 2]))


def test_a_pickle_of_joblib_is_read_as_joblib_reads_it() -> None:
    """In both memory orders."""
    joblib = pytest.importorskip("joblib")
    arrays = [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(8, dtype=np.float32).reshape(4, 2)),
    ]
    stream = io.BytesIO()
    joblib.dump(arrays, stream)
    for found, expected in zip(graphs.unpickle_arrays(stream.getvalue()), arrays, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_graph_is_built_once(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time it comes from the cache; another contract is another graph."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    record = model("expression8")
    built: list[int] = []

    def build() -> bytes:
        built.append(1)
        return b"graph"

    first = graphs.cached("net", record, build)
    assert isinstance(first, Path) and first.read_bytes() == b"graph"
    assert graphs.cached("net", record, build) == first and len(built) == 1


def test_an_unwritable_cache_is_no_error(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph is used from memory."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert graphs.cached("net", model("expression8"), lambda: b"graph") == b"graph"
