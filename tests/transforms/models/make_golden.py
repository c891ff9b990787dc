"""Make the golden data of the built-in models again, with the frameworks that the nets were trained in.

Run it by hand, from the repository's root, in an environment of its own with tensorflow-cpu, tf-keras, mtcnn==1.0.0,
onnx, onnxruntime, opencv-python-headless 5 and scikit-image, Node with face-api.js in $NODE_PATH, and
LABELSTREAM_MODELS set:

    npm install --prefix ~/face-api face-api.js@0.22.2
    export NODE_PATH=~/face-api/node_modules PYTHONPATH=.
    python tests/transforms/models/make_golden.py [name ...]

Names are those of the functions below; without any all is made. The picture is a part of scikit-image's astronaut
(NASA, public domain). Crops are cut by code of this file, so that the check compares two implementations. It writes
records/*.npz, and data/nets.npz: what each net gives for given pixels.
"""

import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import cv2
import mtcnn
import numpy as np
import onnx.reference
import skimage.data
import tf_keras

from transforms.models.mtcnn import Mtcnn
from transforms.models.record import RECORDS, load_record
from transforms.models.weights import find

DATA = Path(__file__).parent / "data"
# The whole face; parts of it that leave a net in doubt, so that its numbers move; beyond the picture's edge; small.
BOXES = [[68, 25, 91, 111], [103.81, 27.73, 65.33, 72.37], [51.24, -36.04, 107.8, 165.13], [76.37, 45.18, 31.26, 41.54]]
LANDMARKS = [[93.4, 63.6], [137.5, 64.4], [114.1, 87.7], [94.0, 103.1], [132.9, 103.7]]
NODE = Path(__file__).parent / "face_api_landmarks.cjs"


def picture():
    return np.ascontiguousarray(skimage.data.astronaut()[40:232, 110:302])


def crops(rgb, size, how):
    """Cut each box by the plain reading of the contract: square, the edge repeated, gray, resized."""
    found = []
    for x, y, width, height in np.float32(BOXES).tolist():
        side = max(1, round(max(width, height)))
        left, top = round(x + width / 2 - side / 2), round(y + height / 2 - side / 2)
        wide = np.pad(rgb, ((300, 300), (300, 300), (0, 0)), mode="edge")
        part = wide[300 + top : 300 + top + side, 300 + left : 300 + left + side]
        gray = cv2.cvtColor(np.ascontiguousarray(part), cv2.COLOR_RGB2GRAY)
        found.append(cv2.resize(gray, (size, size), interpolation=how))
    return np.stack(found)


def save_classifier(name, cut, probabilities):
    landmarks = np.full((len(BOXES), 5, 2), np.nan, np.float32)
    landmarks[0] = LANDMARKS
    np.savez_compressed(
        RECORDS / f"{name}.npz",
        picture=picture(),
        boxes=np.float32(BOXES),
        landmarks=landmarks,
        crops=cut,
        labels=np.array(load_record(name).labels),
        probabilities=probabilities.astype(np.float32),
    )


def expression8(nets):
    cut = crops(picture(), 48, cv2.INTER_AREA)
    net = onnx.reference.ReferenceEvaluator(str(find(load_record("expression8"))))
    (found,) = net.run(["p_ferplus"], {"gray": cut.astype(np.float32)[..., None]})
    save_classifier("expression8", cut, found)


def xception(nets):
    random = np.random.default_rng(0)
    scaled = lambda gray: (gray.astype(np.float32)[..., None] / 255 - 0.5) * 2  # noqa: E731
    cut = crops(picture(), 64, cv2.INTER_LINEAR)
    many = np.concatenate([cut, random.integers(0, 256, (12, 64, 64), np.uint8)])
    nets["mini.pixels"] = many
    for name, key in (("mini-xception", "mini"), ("mini-xception-107", "mini107"), ("big-xception-54", "big")):
        net = tf_keras.models.load_model(find(load_record(name)), compile=False)
        save_classifier(name, cut, net.predict(scaled(cut), verbose=0))
        nets[f"{key}.probabilities"] = net.predict(scaled(many), verbose=0)


def landmarks68(nets):
    """The crops of five landmarks, turned, small and beyond the picture's edge; and that of a box alone."""
    rgb, record = picture(), load_record("landmarks68")
    middle = np.mean(LANDMARKS, axis=0)
    turned = [
        (np.array(LANDMARKS) - middle) @ (scale * np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])) + to
        for scale, a, to in (
            (1, 0, middle),
            (1.2, 0.35, middle + np.array([4, -6])),
            (0.7, -0.6, middle),
            (1.6, 0.1, [30, 60]),
        )
    ]
    landmarks = np.float32([*turned, np.full((5, 2), np.nan)])
    boxes = np.float32([BOXES[0]] * 5)
    target = np.array(record.crop.template) * 112
    cut = [similar(rgb, points, target) for points in landmarks[:4].astype(np.float64)]
    x, y, width, height = BOXES[0]
    side = round(max(width, height) * record.crop.scale)
    left, top = round(x + width / 2 - side / 2), round(y + height / 2 - side / 2)
    wide = np.pad(rgb, ((300, 300), (300, 300), (0, 0)), mode="edge")
    cut.append(cv2.resize(wide[300 + top : 300 + top + side, 300 + left : 300 + left + side], (112, 112)))
    # Noise that compresses: what matters is that it is nothing like a face.
    noise = (np.arange(2 * 112 * 112 * 3) * 7919 % 251).astype(np.uint8).reshape(2, 112, 112, 3)
    pixels = np.concatenate([np.stack(cut), noise])
    manifest = find(record).with_name("face_landmark_68_model-weights_manifest.json")
    command = ["node", NODE, find(record), manifest]
    found = subprocess.run(command, input=pixels.tobytes(), stdout=subprocess.PIPE, check=True)
    points = np.frombuffer(found.stdout, "<f4").reshape(-1, 68, 2)
    arrays = {"picture": rgb, "boxes": boxes, "landmarks": landmarks, "crops": pixels[:5], "points": points[:5]}
    np.savez_compressed(RECORDS / "landmarks68.npz", **arrays)
    nets["landmarks68.pixels"], nets["landmarks68.points"] = pixels[5:], points[5:]


def similar(rgb, points, target):
    """Cut so that `points` come closest to `target`: least squares for a, b, c, d in (ax - by + c, bx + ay + d)."""
    rows = [[[x, -y, 1, 0], [y, x, 0, 1]] for x, y in points]
    a, b, right, down = np.linalg.lstsq(np.concatenate(rows), target.reshape(-1), rcond=None)[0]
    matrix = np.array([[a, -b, right], [b, a, down]])
    return cv2.warpAffine(rgb, matrix, (112, 112), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def yunet(nets):
    rgb = picture()
    net = cv2.FaceDetectorYN.create(str(find(load_record("yunet"))), "", rgb.shape[1::-1], 0.6, 0.3, 5000)
    _, faces = net.detect(np.ascontiguousarray(rgb[..., ::-1]))
    save_detector("yunet", rgb, faces[:, :4], faces[:, 4:14].reshape(-1, 5, 2), faces[:, 14], pixels=0.05)


def save_detector(name, rgb, boxes, landmarks, scores, pixels):
    arrays = {"boxes": boxes, "landmarks": landmarks, "scores": scores, "pixels": np.array(pixels)}
    np.savez_compressed(RECORDS / f"{name}.npz", picture=rgb, **{k: v.astype(np.float32) for k, v in arrays.items()})


class OriginalNet:
    """One of the package's nets behind the door of ours."""

    def __init__(self, model):
        self.model = model

    def run(self, pixels, outputs):
        found = [np.asarray(each) for each in self.model((pixels.astype(np.float32) - 127.5) / 128)]
        named = {"box": found[0], "points": found[1], "face": found[-1][..., 1:]}
        if found[0].ndim == 4:
            named = {name: each.transpose(0, 3, 1, 2) for name, each in named.items()}
        return [named[name] for name in outputs]


def mtcnn_nets(nets):
    rgb, random = picture(), np.random.default_rng(1)
    package = mtcnn.MTCNN()
    original = {name: OriginalNet(s.model) for name, s in zip(("pnet", "rnet", "onet"), package.stages, strict=True)}
    record = load_record("mtcnn")
    (faces,) = Mtcnn(record, original, record.detection.threshold)([rgb])
    save_detector("mtcnn", rgb, faces.boxes, faces.landmarks, faces.scores, pixels=0.5)
    whole = package.detect_faces(rgb, output_type="numpy", fit_to_image=False)
    nets["package.box"], nets["package.points"] = whole[:, 1:5], whole[:, 6:16]
    for name, size in (("pnet", 57), ("rnet", 24), ("onet", 48)):
        parts = [cv2.resize(rgb[y : y + s, x : x + s], (size, size)) for x, y, s in ((68, 25, 100), (30, 60, 90))]
        pixels = np.concatenate([np.stack(parts), random.integers(0, 256, (6, size, size, 3), np.uint8)])
        nets[f"{name}.pixels"] = pixels
        outputs = ("face", "box", "points") if name == "onet" else ("face", "box")
        for output, found in zip(outputs, original[name].run(pixels, outputs), strict=True):
            nets[f"{name}.{output}"] = found


if __name__ == "__main__":
    makers = (expression8, xception, landmarks68, yunet, mtcnn_nets)
    made = DATA / "nets.npz"
    nets = dict(np.load(made)) if made.is_file() else {}
    for make in makers:
        if len(sys.argv) == 1 or make.__name__ in sys.argv[1:]:
            make(nets)
    DATA.mkdir(exist_ok=True)
    np.savez_compressed(made, **nets)
