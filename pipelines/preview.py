"""A contact sheet of some pictures with their boxes, landmarks and labels drawn: report/preview.png."""

from collections.abc import Iterator
from math import ceil, sqrt
from typing import Any

import cv2
import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.dataset import Dataset
from pipelines.logs import log
from schemas.errors import ItemError
from schemas.reasons import Outcome
from transforms.drawing import draw_faces, face_of, write_caption
from transforms.pictures import decode
from transforms.storage import read_bytes, write_atomic
from transforms.video import read_frames

TILE_PX = 320
"""Width and height of one picture's tile, its caption apart."""

CAPTION_PX = 20
_GROUND, _INK = 30, (235, 235, 235)


def draw_preview(dataset: Dataset, count: int) -> None:
    """Draw `count` pictures, those with faces first, into report/preview.png; pictures that have gone are left out."""
    told = dataset.manifests[-1].told["configuration"] if dataset.manifests else None
    if told is None:
        return
    chosen = _chosen(dataset, count)
    mine = pl.col("image_id").is_in(chosen["image_id"].implode())
    faces = dataset.scan("annotations").filter(mine).collect().partition_by("image_id", as_dict=True)
    drawn = {}
    for row, rgb in _pictures(chosen, told):
        own = faces.get((row["image_id"],))
        drawn[row["image_id"]] = _tile(rgb, row, own.to_dicts() if own is not None else [])
    tiles = [drawn[image_id] for image_id in chosen["image_id"] if image_id in drawn]
    if tiles:
        _, png = cv2.imencode(".png", np.ascontiguousarray(_sheet(tiles)[:, :, ::-1]))
        write_atomic(str(dataset.path / "report" / "preview.png"), png.tobytes())


def _chosen(dataset: Dataset, count: int) -> pl.DataFrame:
    """Return the first pictures, those with faces before the others, and of each video the first frame before more."""
    images = dataset.scan("images").filter(
        pl.col("outcome").is_in([Outcome.LABELLED, Outcome.NO_FACE, Outcome.QUARANTINED])
    )
    bare = images.with_columns(bare=pl.col("annotations") == 0)
    nth = pl.when(pl.col("video_id").is_null()).then(0).otherwise(pl.int_range(pl.len()).over("video_id", "bare"))
    return bare.with_columns(nth=nth).sort("bare", "nth", maintain_order=True).head(count).collect()


def _pictures(chosen: pl.DataFrame, told: dict[str, Any]) -> Iterator[tuple[dict[str, Any], NDArray[np.uint8]]]:
    """Yield the rows with their pixels, which may be reduced; stills first. What cannot be read is left out."""
    still = pl.col("video_id").is_null()
    for row in chosen.filter(still).iter_rows(named=True):
        try:
            data = read_bytes(row["source_uri"], told["max_bytes"])
            yield row, decode(data, max_pixels=told["max_pixels"], reduce_to=TILE_PX).rgb
        except ItemError as error:
            log.warning("preview leaves out %s: %s", row["source_uri"], error)
    for _, rows in chosen.filter(~still).group_by("video_id", maintain_order=True):
        wanted = {row["frame_index"]: row for row in rows.iter_rows(named=True)}
        try:
            for frame in read_frames(rows["source_uri"][0], max_pixels=told["max_pixels"]):
                if frame.moment.frame in wanted:
                    yield wanted.pop(frame.moment.frame), frame.rgb
                if not wanted:
                    break
        except ItemError as error:
            log.warning("preview leaves out %s: %s", rows["source_uri"][0], error)


def _tile(rgb: NDArray[np.uint8], row: dict[str, Any], faces: list[dict[str, Any]]) -> NDArray[np.uint8]:
    """Return a tile (TILE_PX + CAPTION_PX, TILE_PX, 3) with the picture fitted, its faces drawn and its name below."""
    fit = TILE_PX / max(row["width"], row["height"])
    size = max(1, round(row["width"] * fit)), max(1, round(row["height"] * fit))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if fit < 1 else cv2.INTER_LINEAR)
    tile = np.full((TILE_PX + CAPTION_PX, TILE_PX, 3), _GROUND, np.uint8)
    left, top = (TILE_PX - size[0]) // 2, (TILE_PX - size[1]) // 2
    tile[top : top + size[1], left : left + size[0]] = small
    draw_faces(tile[:TILE_PX], (face_of(face).scaled(fit, left, top) for face in faces))
    caption = row["file_name"].split("/")[-1]
    write_caption(tile, caption, 4, TILE_PX + 14, 12, _INK)
    return tile


def _sheet(tiles: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    columns = ceil(sqrt(len(tiles)))
    blank = np.full_like(tiles[0], _GROUND)
    padded = tiles + [blank] * (-len(tiles) % columns)
    rows = [np.hstack(padded[start : start + columns]) for start in range(0, len(padded), columns)]
    return np.vstack(rows)
