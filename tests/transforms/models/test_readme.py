"""The records of the README, word for word, beside networks of the inputs and outputs that they speak of."""

import re
import tomllib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.records import Faces
from schemas.vocabulary import EXPRESSIONS
from tests.transforms.models.stand_in import save_net, weights
from transforms.models.classifiers import load_classifier
from transforms.models.landmarks68 import load_landmarker
from transforms.models.record import load_record
from transforms.models.runtime import CPU

README = Path(__file__).parents[3] / "transforms" / "models" / "README.md"


def examples() -> dict[str, str]:
    """Return the README's records by their names."""
    blocks = re.findall(r"^(?:```|~~~)toml\n(.*?)^(?:```|~~~)$", README.read_text(), re.DOTALL | re.MULTILINE)
    return {tomllib.loads(block)["name"]: block for block in blocks}


def written(name: str, folder: Path, outputs: int, names: tuple[str, str]) -> Path:
    """Write the README's record and a network for it into `folder`; only the sha256 and the golden data differ."""
    text = examples()[name]
    told: dict[str, Any] = tomllib.loads(text)
    sha256 = save_net(folder / told["weights"]["file"], told["input"]["size"], outputs, 3, names)
    path = folder / f"{name}.toml"
    path.write_text(re.sub(r'(?m)^golden = ".*$', "", text.replace("0" * 64, sha256)))
    return path


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    """A picture whose parts have different colours."""
    ramp = np.arange(300)
    return np.stack([*np.meshgrid(ramp % 256, (ramp * 2) % 256), np.full((300, 300), 40)], axis=-1).astype(np.uint8)


@pytest.fixture
def faces() -> Faces:
    """One face, with its landmarks unknown."""
    return Faces(np.float32([[40, 20, 120, 200]]), np.full((1, 5, 2), np.nan, np.float32), np.ones(1, np.float32))


def test_every_example_is_tested() -> None:
    """A record that is added to the README gets a test here."""
    assert sorted(examples()) == ["enet-b0-8-vgaf", "my-landmarks", "raf", "two"]


def test_the_record_for_emotiefflib_prepares_pixels_as_emotiefflib_does(
    tmp_path: Path, picture: NDArray[np.uint8], faces: Faces
) -> None:
    """Its steps by hand: the box cut out, resized to 224x224, / 255, ImageNet's mean and std, planes, softmax."""
    classifier = load_classifier(written("enet-b0-8-vgaf", tmp_path, 8, ("input", "output")), CPU)
    assert classifier.labels == ("angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")
    face = cv2.resize(picture[20:220, 40:160], (224, 224)) / 255
    planes = ((face - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(2, 0, 1)
    expected = softmax(planes.mean(axis=(1, 2))[None] @ weights(3, 8))
    crops = classifier.crop(picture, faces)
    np.testing.assert_allclose(classifier.classify(crops), expected, atol=1e-5)
    assert crops.shape == (1, 224, 224, 3)


def test_the_record_for_raf_db_aligns_and_scales(tmp_path: Path, picture: NDArray[np.uint8], faces: Faces) -> None:
    """RAF-DB's seven labels in its order; the crop of five landmarks that stand at the template is the picture."""
    path = written("raf", tmp_path, 7, ("faces", "logits"))
    classifier = load_classifier(path, CPU)
    assert classifier.labels == ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")
    template = np.float32(tomllib.loads(path.read_text())["crop"]["template"]).reshape(1, 5, 2)
    placed = Faces(faces.boxes, template * 112 + np.float32([30, 50]), faces.scores)
    crops = classifier.crop(picture, placed)
    np.testing.assert_allclose(crops[0], picture[50:162, 30:142], atol=1)
    planes = ((crops[0] / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(2, 0, 1)
    expected = softmax(planes.mean(axis=(1, 2))[None] @ weights(3, 7))
    np.testing.assert_allclose(classifier.classify(crops), expected, atol=1e-5)


def test_the_ensembles_record_takes_its_members_beside_it(
    tmp_path: Path, picture: NDArray[np.uint8], faces: Faces
) -> None:
    """Two records of the worked example, with other weights: the mean of both."""
    raf = written("raf", tmp_path, 7, ("faces", "logits"))
    other = raf.read_text().replace('"raf"', '"raf2"').replace("0.00392156862745098", "0.0039")
    (tmp_path / "raf2.toml").write_text(other)
    (tmp_path / "two.toml").write_text(examples()["two"])
    both = load_classifier(tmp_path / "two.toml", CPU)
    crops = both.crop(picture, faces)
    parts = [load_classifier(tmp_path / name, CPU).classify(crops) for name in ("raf.toml", "raf2.toml")]
    np.testing.assert_allclose(both.classify(crops), np.mean(parts, axis=0), atol=1e-6)


def test_the_landmarks_record_gives_points(tmp_path: Path, picture: NDArray[np.uint8], faces: Faces) -> None:
    """x and y in turn, in parts of the square crop times 1.2."""
    landmarker = load_landmarker(written("my-landmarks", tmp_path, 136, ("faces", "points")), CPU)
    crop = landmarker.crop(picture, faces)
    assert crop.shape == (1, 128, 128, 3)
    parts = ((crop[0] / 255).mean(axis=(0, 1)) @ weights(3, 136)).reshape(68, 2)
    expected = parts * 240 + np.array([100 - 120, 120 - 120])
    np.testing.assert_allclose(landmarker.locate(picture, faces)[0], expected, atol=1e-2)


def test_all_examples_speak_of_labels_that_the_product_knows(tmp_path: Path) -> None:
    """Spelled as the vocabulary spells them, or they would get columns of their own."""
    for name, outputs in (("enet-b0-8-vgaf", 8), ("raf", 7)):
        assert set(load_record(written(name, tmp_path, outputs, ("x", "y"))).labels) <= set(EXPRESSIONS)
