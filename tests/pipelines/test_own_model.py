"""A person's own network: the documented record works, and what its network gets wrong is held back, not written."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper

from pipelines.dataset import Dataset
from schemas.errors import UsageError
from tests.pipelines.conftest import outcomes, run
from transforms.models.record import load_record

README = Path(__file__).parents[2] / "transforms" / "models" / "README.md"


def documented_record(folder: Path, nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]) -> Path:
    """Write the README's record beside a network of `nodes` from `faces` (n, 3, 112, 112) to `logits` (n, 7)."""
    graph = helper.make_graph(
        nodes,
        "raf",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["n", 3, 112, 112])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 7])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), folder / "raf.onnx")
    (text,) = re.findall(r"```toml\n(.*?)```", README.read_text(), re.DOTALL)
    sha256 = hashlib.sha256((folder / "raf.onnx").read_bytes()).hexdigest()
    text = text.replace("0" * 64, sha256).replace('golden = "raf.npz"', "")
    (folder / "raf.toml").write_text(text)
    return folder / "raf.toml"


def net(last: str) -> list[onnx.NodeProto]:
    """Return the nodes of a network that looks at the mean colour only; `last` is the operator on its logits."""
    return [
        helper.make_node("ReduceMean", ["faces", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["raw"]),
        helper.make_node(last, ["raw"], ["logits"]),
    ]


CONSTANTS = [
    helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3]),
    helper.make_tensor("weights", TensorProto.FLOAT, [3, 7], np.linspace(-1, 1, 21).tolist()),
]


def test_the_documented_record_labels_pictures(pictures: Path, tmp_path: Path) -> None:
    """The worked example of the README, word for word, runs; contempt, which it does not know, is null."""
    record = documented_record(tmp_path, net("Identity"), CONSTANTS)
    assert run(tmp_path / "out", pictures, options=["--classifier", str(record)]) == 0
    annotations = Dataset(tmp_path / "out").scan("annotations").collect()
    assert annotations.height == 3
    assert annotations["p_contempt"].null_count() == 3
    known = [f"p_{label}" for label in load_record(record).labels]
    assert annotations.select(pl.sum_horizontal(known).round(4)).to_series().to_list() == [1.0] * 3
    assert set(annotations["model"]) == {f"raf@{hashlib.sha256((tmp_path / 'raf.onnx').read_bytes()).hexdigest()[:12]}"}


def test_numbers_that_are_none_are_quarantined(pictures: Path, tmp_path: Path) -> None:
    """A network that gives NaN labels nothing: each face is held back by the rule on probabilities."""
    record = documented_record(
        tmp_path, net("Sqrt"), [CONSTANTS[0], helper.make_tensor("weights", 1, [3, 7], [-1e9] * 21)]
    )
    run(tmp_path / "out", pictures, options=["--classifier", str(record)])
    assert outcomes(tmp_path / "out") == {
        "portrait.png": "quarantined",
        "two.jpg": "quarantined",
        "nobody.jpg": "no_face",
    }
    assert set(Dataset(tmp_path / "out").scan("quarantine").collect()["rule"]) >= {"label.probabilities"}


def test_another_classifiers_labels_get_columns_beside_the_old_ones(pictures: Path, tmp_path: Path) -> None:
    """With --new-configuration a classifier may know labels that the first did not: all rows stay readable."""
    out = tmp_path / "out"
    run(out, pictures)
    record = documented_record(tmp_path, net("Identity"), CONSTANTS)
    record.write_text(record.read_text().replace('"surprise", "fear"', '"zeal", "boredom"'))
    (pictures / "more.png").write_bytes((pictures / "portrait.png").read_bytes() + b"\0")
    assert run(out, pictures, options=["--classifier", str(record), "--new-configuration"]) == 0
    assert run(out, pictures, options=["--classifier", str(record)]) == 0
    annotations = Dataset(out).scan("annotations").collect()
    assert annotations.height == 4
    assert annotations["p_zeal"].null_count() == 3 and annotations["p_contempt"].null_count() == 1
    coco = json.loads((out / "exports" / "annotations" / "instances.json").read_text())
    assert [category["name"] for category in coco["categories"]][8:] == ["zeal", "boredom"]


def test_a_changed_record_is_another_configuration(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same weights with other preprocessing give other labels; another text about them does not."""
    record = documented_record(tmp_path, net("Identity"), CONSTANTS)
    options = ["--classifier", str(record)]
    assert run(tmp_path / "out", pictures, options=options) == 0
    record.write_text(record.read_text().replace("RAF-DB test .88", "RAF-DB test .89"))
    assert run(tmp_path / "out", pictures, options=options) == 0
    record.write_text(record.read_text().replace("0.485", "0.5"))
    assert run(tmp_path / "out", pictures, options=options) == 2
    assert "classifier: raf" in capsys.readouterr().err


@pytest.mark.parametrize("field", ["kind", "labels", "softmax_", "size", "sha256", "template"])
def test_a_wrong_record_is_told(field: str, tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A field that is missing or unknown is named, with exit code 2."""
    record = documented_record(tmp_path, net("Identity"), CONSTANTS)
    text = record.read_text()
    broken = (
        text.replace("softmax =", "softmax_ =") if field == "softmax_" else re.sub(rf"(?m)^{field} = .*$", "", text)
    )
    assert broken != text
    record.write_text(broken)
    with pytest.raises(UsageError, match=field):
        load_record(record)
    assert run(tmp_path / "out", pictures, options=["--classifier", str(record)]) == 2
    assert field in capsys.readouterr().err


def test_other_weights_are_refused(tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Weights that are not those of the record's sha256 are not run."""
    record = documented_record(tmp_path, net("Identity"), CONSTANTS)
    with (tmp_path / "raf.onnx").open("ab") as weights:
        weights.write(b"\0")
    assert run(tmp_path / "out", pictures, options=["--classifier", str(record)]) == 2
    assert "sha256" in capsys.readouterr().err
