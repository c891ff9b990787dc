"""Crops in, probabilities out: the same bits whatever else is in the batch."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.errors import UsageError
from transforms.models.classifiers import CropClassifier, OneNet, load_classifier
from transforms.models.record import ModelRecord
from transforms.models.runtime import CPU
from transforms.models.weights import sha256_of

Model = Callable[[str], ModelRecord]
BUILT_IN = ("expression8", "mini-xception", "mini-xception-107", "big-xception-54", "xception-ensemble")


def faces(size: int, count: int = 24) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, size, size), np.uint8)


@pytest.mark.parametrize("name", BUILT_IN)
def test_probabilities_are_probabilities(name: str, model: Model) -> None:
    """(n, k) float32, rows that sum to 1; no crops give no rows."""
    record = model(name)
    classifier = load_classifier(name, CPU)
    found = classifier.classify(faces(record.input.size))
    assert found.shape == (24, len(classifier.labels)) and found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert classifier.classify(faces(record.input.size)[:0]).shape == (0, len(classifier.labels))
    assert len(record.sha256) == 64 and classifier.sha256 == record.sha256


@pytest.mark.parametrize("tta", ["none", "flip"])
@pytest.mark.parametrize("name", BUILT_IN)
def test_a_crops_bits_do_not_depend_on_its_batch(name: str, tta: str, model: Model) -> None:
    """Batches of 1 to 8, any place in them: a rerun makes other batches and must write the same bytes."""
    crops = faces(model(name).input.size)
    classifier = load_classifier(name, CPU, tta=tta)
    single = np.concatenate([classifier.classify(crops[i : i + 1]) for i in range(len(crops))])
    for size in range(2, 9):
        parts = [classifier.classify(crops[i : i + size]) for i in range(0, len(crops), size)]
        assert np.concatenate(parts).tobytes() == single.tobytes(), size


def test_threads_share_one_classifier(model: Model) -> None:
    """Four at once get the same bits."""
    crops = faces(model("expression8").input.size)
    classifier = load_classifier("expression8", CPU)
    expected = classifier.classify(crops).tobytes()
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(classifier.classify(crops).tobytes())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


def test_flip_is_the_average_with_the_mirror_image(model: Model) -> None:
    """A crop and its mirror image get the same answer."""
    crops = faces(model("expression8").input.size)
    plain, flip = (load_classifier("expression8", CPU, tta=tta) for tta in ("none", "flip"))
    mirrored = np.ascontiguousarray(crops[:, :, ::-1])
    np.testing.assert_allclose(flip.classify(crops), (plain.classify(crops) + plain.classify(mirrored)) / 2, atol=1e-6)
    np.testing.assert_array_equal(flip.classify(crops), flip.classify(mirrored))


def test_wrong_arguments_are_named(model: Model) -> None:
    """An unknown tta, a detector in place of a classifier, crops of another net."""
    with pytest.raises(UsageError, match="no tta 'flop': expected one of none, flip"):
        load_classifier("expression8", CPU, tta="flop")
    with pytest.raises(UsageError, match="'yunet' is of kind 'detector', expected a classifier"):
        load_classifier("yunet", CPU)
    with pytest.raises(ValueError, match=r"expected crops"):
        load_classifier("expression8", CPU).classify(faces(64))


def own_net(folder: Path, layout: str, colour: str, softmax: bool, labels: str, extra: str = "") -> Path:
    """Write a net whose outputs are the mean of each channel as the net sees it, and its record."""
    onnx = pytest.importorskip("onnx")
    helper, proto = onnx.helper, onnx.TensorProto
    channels = 1 if colour == "gray" else 3
    shape = ["n", channels, 8, 8] if layout == "NCHW" else ["n", 8, 8, channels]
    axes = helper.make_tensor("axes", proto.INT64, [2], [2, 3] if layout == "NCHW" else [1, 2])
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x", "axes"], ["means"], keepdims=0)],
        "means",
        [helper.make_tensor_value_info("x", proto.FLOAT, shape)],
        [helper.make_tensor_value_info("means", proto.FLOAT, ["n", channels])],
        [axes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, folder / "own.onnx")
    path = folder / "own.toml"
    path.write_text(f"""
name = "own"
kind = "classifier"
family = "onnx"
title = "means"
accuracy = "none"
cost = "none"
weaknesses = "all"
labels = {labels}
softmax = {str(softmax).lower()}
[weights]
file = "own.onnx"
sha256 = "{sha256_of(folder / "own.onnx")}"
licence = "CC0-1.0"
[input]
size = 8
colour = "{colour}"
interpolation = "linear"
dtype = "float32"
layout = "{layout}"
{extra}
[crop]
kind = "square"
[outputs]
probabilities = "means"
""")
    return path


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize(("colour", "order"), [("rgb", [0, 1, 2]), ("bgr", [2, 1, 0])])
def test_a_persons_own_net_gets_what_its_record_says(
    layout: str, colour: str, order: list[int], tmp_path: Path
) -> None:
    """Layout, channel order, scale, and mean and std for each channel in the net's own order."""
    extra = "scale = 0.5\nmean = [1, 2, 3]\nstd = [1, 2, 4]"
    path = own_net(tmp_path, layout, colour, False, '["a", "b", "c"]', extra)
    crops = np.zeros((2, 8, 8, 3), np.uint8)
    crops[0] = (10, 20, 30)
    channels = np.array([10, 20, 30])[order]
    expected = (channels * 0.5 - [1, 2, 3]) / [1, 2, 4]
    np.testing.assert_allclose(load_classifier(path, CPU).classify(crops)[0], expected, rtol=1e-6)


def test_logits_become_probabilities_where_the_record_says_so(tmp_path: Path) -> None:
    """Also large ones, without overflow."""
    path = own_net(tmp_path, "NHWC", "rgb", True, '["a", "b", "c"]')
    found = load_classifier(path, CPU).classify(np.full((1, 8, 8, 3), 255, np.uint8))
    np.testing.assert_allclose(found, 1 / 3, rtol=1e-6)


def test_a_wrong_number_of_labels_or_a_wrong_output_is_named(tmp_path: Path) -> None:
    """When the model is loaded, not in the middle of a run."""
    with pytest.raises(UsageError, match=r"labels: the net's output 'means' has shape \(\d, 3\), expected \(n, 2\)"):
        load_classifier(own_net(tmp_path, "NHWC", "rgb", False, '["a", "b"]'), CPU)
    path = own_net(tmp_path, "NHWC", "rgb", False, '["a", "b", "c"]')
    path.write_text(path.read_text().replace('"means"\n', '"meens"\n').replace('title = "meens"', 'title = "x"'))
    with pytest.raises(UsageError, match=r"outputs\.probabilities: expected one of means, got 'meens'"):
        load_classifier(path, CPU)


def test_a_net_whose_bits_depend_on_the_batch_gets_one_crop_at_a_time(model: Model) -> None:
    """Some kernels add in another order for another batch size."""
    classifier = load_classifier("expression8", CPU)
    assert isinstance(classifier, CropClassifier) and isinstance(classifier.look, OneNet)
    crops = classifier.look.net
    assert crops.net.batch == 8
    plain = crops.net._run

    def wavering(outputs: Any, feeds: dict[str, Any]) -> list[Any]:
        (rows,) = feeds.values()
        return [each + np.float32(len(rows) > 2) * np.float32(1e-6) for each in plain(outputs, feeds)]

    crops.net._run = wavering
    crops.steady(classifier.look)
    assert crops.net.batch == 1
