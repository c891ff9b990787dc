"""A contact sheet of some pictures with their boxes, landmarks and labels drawn: report/preview.png."""

from math import ceil, floor, sqrt
from typing import Any

import cv2
import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.dataset import Dataset
from pipelines.logs import log
from schemas.errors import ItemError
from schemas.reasons import Outcome
from transforms.pictures import decode
from transforms.storage import read_bytes, write_atomic

TILE_PX = 320
"""Width and height of one picture's tile, its caption apart."""

CAPTION_PX = 20
_INK, _BOX, _POINT = (235, 235, 235), (80, 200, 60), (255, 90, 60)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_preview(dataset: Dataset, count: int) -> None:
    """Draw `count` pictures, those with faces first, into report/preview.png; pictures that have gone are left out."""
    told = dataset.manifests[-1].told["configuration"] if dataset.manifests else None
    if told is None:
        return
    tiles = []
    chosen = _chosen(dataset, count)
    mine = pl.col("image_id").is_in(chosen["image_id"].implode())
    faces = dataset.scan("annotations").filter(mine).collect().partition_by("image_id", as_dict=True)
    for row in chosen.iter_rows(named=True):
        try:
            picture = decode(
                read_bytes(row["source_uri"], told["max_bytes"]), max_pixels=told["max_pixels"], reduce_to=TILE_PX
            )
        except ItemError as error:
            log.warning("preview leaves out %s: %s", row["source_uri"], error)
            continue
        own = faces.get((row["image_id"],))
        tiles.append(_tile(picture.rgb, row, own.to_dicts() if own is not None else []))
    if tiles:
        _, png = cv2.imencode(".png", np.ascontiguousarray(_sheet(tiles)[:, :, ::-1]))
        (dataset.path / "report").mkdir(exist_ok=True)
        write_atomic(str(dataset.path / "report" / "preview.png"), png.tobytes())


def _chosen(dataset: Dataset, count: int) -> pl.DataFrame:
    images = dataset.scan("images").filter(
        pl.col("outcome").is_in([Outcome.LABELLED, Outcome.NO_FACE, Outcome.QUARANTINED])
    )
    first = images.with_columns(bare=pl.col("annotations") == 0).sort("bare", maintain_order=True)
    return first.head(count).collect()


def _tile(rgb: NDArray[np.uint8], row: dict[str, Any], faces: list[dict[str, Any]]) -> NDArray[np.uint8]:
    """Return a tile (TILE_PX + CAPTION_PX, TILE_PX, 3) with the picture fitted, its faces drawn and its name below."""
    fit = TILE_PX / max(row["width"], row["height"])
    size = max(1, round(row["width"] * fit)), max(1, round(row["height"] * fit))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if fit < 1 else cv2.INTER_LINEAR)
    tile = np.full((TILE_PX + CAPTION_PX, TILE_PX, 3), 30, np.uint8)
    left, top = (TILE_PX - size[0]) // 2, (TILE_PX - size[1]) // 2
    tile[top : top + size[1], left : left + size[0]] = small
    for face in faces:
        _draw_face(tile, face, fit, left, top)
    caption = row["file_name"].split("/")[-1]
    ascii_caption = caption.encode("ascii", "replace").decode()[:44]
    cv2.putText(tile, ascii_caption, (4, TILE_PX + 14), _FONT, 0.4, _INK, 1, cv2.LINE_AA)
    return tile


def _draw_face(tile: NDArray[np.uint8], face: dict[str, Any], fit: float, left: int, top: int) -> None:
    x, y = left + face["bbox_x"] * fit, top + face["bbox_y"] * fit
    right, bottom = x + face["bbox_w"] * fit, y + face["bbox_h"] * fit
    cv2.rectangle(tile, (round(x), round(y)), (round(right), round(bottom)), _BOX, 1, cv2.LINE_AA)
    if face["landmarks"] is not None:
        for px, py in np.asarray(face["landmarks"]).reshape(5, 2):
            point = (round(left + px * fit), round(top + py * fit))
            cv2.circle(tile, point, 2 if right - x > 40 else 1, _POINT, -1, cv2.LINE_AA)
    # Cut, not rounded: 1.00 would say that a person confirmed it.
    text = f"{face['label']} {floor(face['confidence'] * 100) / 100:.2f}"
    (width, height), _ = cv2.getTextSize(text, _FONT, 0.4, 1)
    at = max(0, min(round(x), TILE_PX - width)), max(height + 2, round(y) - 3)
    cv2.rectangle(tile, (at[0], at[1] - height - 2), (at[0] + width, at[1] + 3), _BOX, -1)
    cv2.putText(tile, text, at, _FONT, 0.4, (0, 0, 0), 1, cv2.LINE_AA)


def _sheet(tiles: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    columns = ceil(sqrt(len(tiles)))
    blank = np.full_like(tiles[0], 30)
    padded = tiles + [blank] * (-len(tiles) % columns)
    rows = [np.hstack(padded[start : start + columns]) for start in range(0, len(padded), columns)]
    return np.vstack(rows)
