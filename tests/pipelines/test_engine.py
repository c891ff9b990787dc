"""The plain door gives what the pipeline gives."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipelines.dataset import Dataset
from pipelines.engine import Engine
from tests.pipelines.conftest import run
from transforms.pictures import decode


def test_engine_and_pipeline_agree(pictures: Path, tmp_path: Path) -> None:
    """Same boxes, same labels, same probabilities, for every picture."""
    run(tmp_path / "out", pictures)
    dataset = Dataset(tmp_path / "out")
    images = dataset.scan("images").collect()
    annotations = dataset.scan("annotations").collect()
    rgb = [decode((pictures / name).read_bytes()).rgb for name in images["file_name"]]
    for found, identity in zip(Engine().annotate(rgb), images["image_id"], strict=True):
        mine = annotations.filter(pl.col("image_id") == identity)
        assert [face.label for face in found.faces] == mine["label"].to_list()
        boxes = mine.select("bbox_x", "bbox_y", "bbox_w", "bbox_h").to_numpy()
        np.testing.assert_allclose(np.array([face.box for face in found.faces]).reshape(-1, 4), boxes, atol=1e-3)
        for face, row in zip(found.faces, mine.iter_rows(named=True), strict=True):
            assert face.probabilities == pytest.approx({name: row[f"p_{name}"] for name in face.probabilities})


def test_nothing_in_nothing_out() -> None:
    """No picture, and a picture without a face, are no error."""
    engine = Engine()
    assert engine.annotate([]) == []
    assert engine.annotate([np.full((80, 120, 3), 200, np.uint8)])[0].faces == ()


def test_the_plain_door_loads_no_beam() -> None:
    """Notebooks and cameras need no pipeline."""
    code = "import sys; from pipelines.engine import Engine; print('apache_beam' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True)
    assert done.stdout.strip() == "False"
