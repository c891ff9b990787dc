"""The contact sheet shows pictures and frames with their faces, as far as they can still be read."""

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.dataset import Dataset
from pipelines.preview import CAPTION_PX, TILE_PX, draw_preview
from tests.builders import face, picture, tables
from tests.pipelines.committed import committed
from tests.transforms.films import made
from transforms.drawing import BOX
from transforms.rules import clean


def test_a_sheet_has_stills_and_frames_those_with_faces_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One frame of each video before a second one; a picture that has gone is left out and told."""
    cv2.imwrite(str(tmp_path / "a.png"), np.full((480, 640, 3), 250, np.uint8))
    video = made(tmp_path / "v.mkv", "libvpx", "matroska", Fraction(1, 1000), [0, 40, 80])
    frame = {"source_uri": str(video), "width": 64, "height": 48, "video_id": "v"}
    rows = (
        picture("none.jpg", source_uri=str(tmp_path / "a.png")),
        *(picture("v.mkv", face((8, 8, 30, 30)), frame_index=i, image_id=f"{i:064d}", **frame) for i in range(3)),
        picture("gone.jpg", face(), source_uri=str(tmp_path / "gone.jpg")),
        picture("a.png", face(), source_uri=str(tmp_path / "a.png")),
    )
    dataset = committed(tmp_path / "set", clean(tables(*rows)))
    _allow(dataset)
    draw_preview(Dataset(dataset), 5)
    sheet = cv2.imread(str(dataset / "report" / "preview.png"))
    assert sheet is not None
    height = TILE_PX + CAPTION_PX
    assert sheet.shape == (2 * height, 2 * TILE_PX, 3)
    tiles = [sheet[y : y + height, x : x + TILE_PX, ::-1] for y in (0, height) for x in (0, TILE_PX)]
    grounds = [int(tile[265, 280].mean()) for tile in tiles]
    assert grounds[1] > 240 > 100 > grounds[0]  # a frame, the still, two more frames
    assert max(grounds[2:]) < 100
    assert all((tile == BOX).all(axis=2).sum() > 100 for tile in tiles)
    assert "preview leaves out" in caplog.text and "gone.jpg" in caplog.text


def _allow(dataset: Path) -> None:
    """Tell in the manifest under which limits pictures were read."""
    [manifest] = (dataset / "_manifests").iterdir()
    told = json.loads(manifest.read_text()) | {"configuration": {"max_bytes": 10**6, "max_pixels": 10**6}}
    manifest.write_text(json.dumps(told))
