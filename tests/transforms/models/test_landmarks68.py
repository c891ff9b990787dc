"""The 68 points: where they are, in what order, and the same bits whatever else is in the batch."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.errors import UsageError
from schemas.records import Faces
from schemas.vocabulary import LANDMARKS_68, SKELETON_68
from tests.transforms.models.stand_in import save_net, weights
from transforms.models.detectors import load_detector
from transforms.models.landmarks68 import Landmarker, NetLandmarker, joined, load_landmarker
from transforms.models.record import RECORDS, ModelRecord
from transforms.models.runtime import CPU

Picture = NDArray[np.uint8]


@pytest.fixture
def landmarker(model: Callable[[str], ModelRecord]) -> Landmarker:
    model("landmarks68")
    return load_landmarker("landmarks68", CPU)


@pytest.fixture
def face(portrait: Picture, model: Callable[[str], ModelRecord]) -> Faces:
    model("yunet")
    return load_detector("yunet", CPU).detect([portrait])[0]


def five(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what the 68 points (n, 68, 2) say of the five landmarks, (n, 5, 2)."""
    eyes = [points[:, 36:42].mean(axis=1), points[:, 42:48].mean(axis=1)]
    return np.stack([*eyes, points[:, 30], points[:, 48], points[:, 54]], axis=1)


def test_the_points_are_where_the_detector_has_its_five(landmarker: Landmarker, portrait: Picture, face: Faces) -> None:
    """On the portrait to a tenth of the distance of the eyes; one record and sha256."""
    points = landmarker.locate(portrait, face)
    assert points.shape == (1, 68, 2) and points.dtype == np.float32
    eyes = np.linalg.norm(face.landmarks[0, 0] - face.landmarks[0, 1])
    assert np.linalg.norm(five(points) - face.landmarks, axis=2).max() < 0.1 * eyes
    assert landmarker.record.weights is not None and landmarker.sha256 == landmarker.record.weights.sha256


def test_real_faces_agree_with_the_detector(landmarker: Landmarker, shared: Path) -> None:
    """On photographs of one face the five agree to .15 of the distance of the eyes on average; measured .09."""
    detector, gaps = load_detector("yunet", CPU), []
    for path in sorted((shared / "data" / "images" / "face").glob("*emotions-a-*.jpg")):
        rgb = np.asarray(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), np.uint8)
        (faces,) = detector.detect([rgb])
        eyes = np.linalg.norm(faces.landmarks[:, 0] - faces.landmarks[:, 1], axis=1)
        away = np.linalg.norm(five(landmarker.locate(rgb, faces)) - faces.landmarks, axis=2).mean(axis=1)
        gaps += (away / eyes).tolist()
    assert len(gaps) >= 8 and np.mean(gaps) < 0.15


def test_names_say_where_the_points_are(landmarker: Landmarker, portrait: Picture, face: Faces) -> None:
    """68 different names in 300-W's order: the subject's right is at the image's left, brows over eyes over mouth."""
    assert len(LANDMARKS_68) == len(set(LANDMARKS_68)) == 68
    (points,) = landmarker.locate(portrait, face)
    place = dict(zip(LANDMARKS_68, points.tolist(), strict=True))

    def middle(part: str) -> list[float]:
        return np.mean([place[name] for name in LANDMARKS_68 if name.rsplit("_", 1)[0] == part], axis=0).tolist()

    x, y = 0, 1
    assert middle("right_eye")[x] < middle("nose_bridge")[x] < middle("left_eye")[x]
    assert middle("right_eyebrow")[x] < middle("left_eyebrow")[x] and place["jaw_1"][x] < place["jaw_17"][x]
    assert middle("right_eyebrow")[y] < middle("right_eye")[y] < middle("nose_base")[y] < middle("mouth_outer")[y]
    assert place["nose_bridge_1"][y] < place["nose_bridge_4"][y] < place["nose_base_3"][y]
    assert max(place.values(), key=lambda point: point[y]) in (place["jaw_8"], place["jaw_9"], place["jaw_10"])
    for part, last in (("right_eye", 4), ("left_eye", 4), ("mouth_outer", 7), ("mouth_inner", 5)):
        assert place[f"{part}_1"][x] < place[f"{part}_{last}"][x]


def test_the_skeleton_joins_points_of_one_part() -> None:
    """Edges are 1-based, none twice, along the parts; only the nose's tip is joined to another part."""
    assert len({frozenset(edge) for edge in SKELETON_68}) == len(SKELETON_68) == 64
    parts = [{LANDMARKS_68[end - 1].rsplit("_", 1)[0] for end in edge} for edge in SKELETON_68]
    assert [part for part in parts if len(part) > 1] == [{"nose_bridge", "nose_base"}]
    assert {end for edge in SKELETON_68 for end in edge} == set(range(1, 69))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_picture_gives_turned_points(
    turns: int, landmarker: Landmarker, portrait: Picture, face: Faces
) -> None:
    """By quarters: the crop follows the five landmarks, so a head upside down is found as well."""
    width = portrait.shape[1]
    landmarks, upright = face.landmarks.copy(), landmarker.locate(portrait, face)
    for _ in range(turns):
        landmarks = np.stack([landmarks[..., 1], width - 1 - landmarks[..., 0]], axis=-1)
        upright = np.stack([upright[..., 1], width - 1 - upright[..., 0]], axis=-1)
    rgb = np.ascontiguousarray(np.rot90(portrait, turns))
    found = landmarker.locate(rgb, Faces(face.boxes, landmarks, face.scores))
    assert np.linalg.norm(found - upright, axis=2).max() < 0.5


def test_many_pictures_at_once_give_the_same_bits(landmarker: Landmarker, portrait: Picture, face: Faces) -> None:
    """Also with pictures without faces between them, and in other batches."""
    random = np.random.default_rng(0)
    shaken = [face.landmarks + random.normal(0, 2, (3, 5, 2)).astype(np.float32) for _ in range(5)]
    groups = [Faces(face.boxes.repeat(3, axis=0), each, face.scores.repeat(3)) for each in shaken]
    pictures = [(portrait, groups[0]), (portrait, Faces.none()), *((portrait, group) for group in groups[1:])]
    many = landmarker.locate_many(pictures)
    assert [len(each) for each in many] == [3, 0, 3, 3, 3, 3]
    for (rgb, faces), found in zip(pictures, many, strict=True):
        assert landmarker.locate(rgb, faces).tobytes() == found.tobytes()
        for number in range(len(faces)):
            alone = landmarker.locate(rgb, faces.take(np.array([number])))
            assert alone.tobytes() == found[number : number + 1].tobytes()
    assert landmarker.locate_many([]) == []


def test_crops_can_be_cut_first_and_located_later(landmarker: Landmarker, portrait: Picture, face: Faces) -> None:
    """A step that lets the pixels go keeps the crops; faces of all pictures go with them."""
    crops = landmarker.crop(portrait, face)
    assert crops.shape == (1, 112, 112, 3)
    found = landmarker.locate_in(np.concatenate([crops, crops]), joined([face, face]))
    expected = landmarker.locate(portrait, face)
    assert found.tobytes() == np.concatenate([expected, expected]).tobytes()


def test_a_face_without_landmarks_is_cut_by_its_box(landmarker: Landmarker, portrait: Picture, face: Faces) -> None:
    """As with --detector none: the points agree with those of the aligned crop to .15 of the distance of the eyes."""
    unknown = Faces(face.boxes, np.full((1, 5, 2), np.nan, np.float32), face.scores)
    eyes = np.linalg.norm(face.landmarks[0, 0] - face.landmarks[0, 1])
    gap = np.linalg.norm(landmarker.locate(portrait, unknown) - landmarker.locate(portrait, face), axis=2)
    assert gap.mean() < 0.15 * eyes


def own(folder: Path, outputs: int) -> Path:
    """Write a person's own landmark net that looks at the mean colour, and its record."""
    sha256 = save_net(folder / "own.onnx", 16, outputs)
    text = (RECORDS / "landmarks68.toml").read_text()
    head = text[: text.index("[weights]")].replace('golden = "landmarks68.npz"', "").replace("face_api_68", "onnx")
    (folder / "own.toml").write_text(f"""{head.replace("landmarks68", "own")}
[weights]
file = "own.onnx"
sha256 = "{sha256}"
licence = "CC0-1.0"
[input]
size = 16
colour = "rgb"
interpolation = "linear"
scale = 0.01
dtype = "float32"
layout = "NCHW"
[crop]
kind = "square"
[outputs]
points = "y"
""")
    return folder / "own.toml"


def test_a_persons_own_net_is_read_by_its_record(tmp_path: Path) -> None:
    """136 numbers are x and y in turn, in parts of the crop."""
    landmarker = load_landmarker(own(tmp_path, 136), CPU)
    rgb = np.full((50, 50, 3), (10, 20, 30), np.uint8)
    faces = Faces(np.float32([[5, 6, 20, 40]]), np.full((1, 5, 2), np.nan, np.float32), np.ones(1, np.float32))
    parts = (np.float32([0.1, 0.2, 0.3]) @ weights(3, 136)).reshape(68, 2)
    np.testing.assert_allclose(landmarker.locate(rgb, faces)[0], parts * 40 + [-5, 6], rtol=1e-5, atol=1e-5)


def test_what_is_no_landmark_net_is_told(tmp_path: Path) -> None:
    """Another number of outputs, another kind of model, a wrong output's name: when it is loaded."""
    with pytest.raises(UsageError, match=r"outputs\.points: the net's output 'y' has shape \(1, 10\), expected"):
        load_landmarker(own(tmp_path, 10), CPU)
    path = own(tmp_path, 136)
    path.write_text(path.read_text().replace('points = "y"', 'points = "z"'))
    with pytest.raises(UsageError, match=r"outputs\.points: expected one of y, got 'z'"):
        load_landmarker(path, CPU)
    path.write_text(path.read_text() + "[labels]")
    with pytest.raises(UsageError, match="labels: expected no such field"):
        load_landmarker(path, CPU)
    with pytest.raises(UsageError, match="'expression8' is of kind 'classifier', expected landmarks"):
        load_landmarker("expression8", CPU)


def test_a_net_whose_bits_depend_on_the_batch_gets_one_crop_at_a_time(tmp_path: Path) -> None:
    """As a classifier's."""
    landmarker = load_landmarker(own(tmp_path, 136), CPU)
    assert isinstance(landmarker, NetLandmarker)
    net = landmarker._net
    assert net.net.batch == 8
    plain = net.net._run
    net.net._run = lambda names, feeds: [each + np.float32(len(each) > 2) for each in plain(names, feeds)]
    net.steady(landmarker.find)
    assert net.net.batch == 1
