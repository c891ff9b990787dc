"""Evaluate tells how good the labels are: end to end, and each outcome of a picture counted where it belongs."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from pipelines import evaluate
from pipelines.logs import run_command
from pipelines.samples import scenes, write_samples
from schemas.tables import Tables, parquet_bytes
from schemas.vocabulary import EXPRESSIONS
from tests.builders import LABELS, face, picture, tables
from tests.pipelines.conftest import run
from transforms.rules import clean

OUTCOMES = [
    picture("a.jpg", face((10, 20, 100, 120), "happy", 0.9), face((300, 20, 50, 60), "sad", 0.6)),
    picture("b.jpg", face((10, 20, 100, 120), "sad", 0.7, 0.95)),
    picture("nobody.jpg"),
    picture("copy.jpg", outcome="duplicate", duplicate_of=picture("b.jpg")["image_id"]),
    picture("held.jpg", outcome="quarantined"),
    picture("whole.jpg", face((None,) * 4, "fear", None, None, origin="import")),
    *(
        picture("clip.mp4", face(label="angry"), video_id="v", frame_index=at, pts_ms=at * 40.0, image_id=f"{at}" * 64)
        for at in range(2)
    ),
]
"""One picture of every outcome, and two frames of a video that broke after them."""

FAILURES = ["broken.jpg", "clip.mp4"]


def dataset(folder: Path, shard: Tables, failures: Sequence[str] = ()) -> Path:
    """Write a data set of one commit; return its folder."""
    failed = [{"item_key": name, "root": 0, "source_uri": f"in/{name}", "file_name": name} for name in failures]
    told: dict[str, Any] = {"labels": list(LABELS), "roots": [], "supersedes": [], "version": "0", "models": {}}
    told["tables"] = {}
    for name in ("images", "annotations", "failures"):
        table = getattr(shard, name)
        if name == "failures":
            table = table.from_pylist(failed, schema=table.schema)
        path = folder / name / "00000000-0000.parquet"
        path.parent.mkdir(parents=True)
        path.write_bytes(parquet_bytes(table, {}))
        told["tables"][name] = [{"path": f"{name}/{path.name}", "size": path.stat().st_size}]
    (folder / "_manifests").mkdir()
    (folder / "_manifests" / "00000000.json").write_text(json.dumps(told))
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return a data set of OUTCOMES."""
    return dataset(tmp_path / "out", clean(tables(*OUTCOMES)), FAILURES)


def job(*arguments: object) -> int:
    """Run the job as the command line does; return the exit code."""
    return run_command(evaluate.main, [str(argument) for argument in arguments])


def judged(out: Path, truth: Path, *options: object) -> dict[str, Any]:
    """Evaluate a data set; return evaluation.json."""
    assert job("--dataset", out, "--truth", truth, *options) == 0
    told: dict[str, Any] = json.loads((out / "report" / "evaluation.json").read_bytes())
    return told


def table(path: Path, *rows: str) -> Path:
    """Write a table."""
    path.write_text("\n".join(rows) + "\n")
    return path


def missed(out: Path) -> list[tuple[str, str]]:
    """Return the missed faces' files and why they were missed."""
    return pl.read_csv(out / "report" / "missed.csv").select("file", "reason").rows()


def value(told: dict[str, Any], name: str) -> Any:
    """Return one of the overall figures."""
    return told["overall"][name]["value"]


# End to end


def test_samples_are_found_and_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their places are known; the portrait smiles, wherever it is pasted, and is labelled so more often than not."""
    pictures, output = write_samples(tmp_path / "samples"), tmp_path / "out"
    assert run(output, pictures) == 0
    rows, images = [], []
    for number, scene in enumerate(scenes(), 1):
        images.append({"id": number, "file_name": scene.name})
        rows += [{"image_id": number, "category_id": 1, "bbox": list(box)} for box in scene.faces]
    whole = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "Happiness"}]}
    truth = table(tmp_path / "truth.json", json.dumps(whole))
    capsys.readouterr()
    told = judged(output, truth, "--at-least", "coverage=1,ap50=1,accuracy=.5")
    assert (told["truth"]["faces"], told["missed"], told["truth"]["format"]) == (9, 0, "coco")
    assert told["boxes"]["ap50"] == 1 and 0.5 < told["boxes"]["ap"] < 1
    assert sum(one["found"] for one in told["boxes"]["recall_by_size"]) == 9
    shown = capsys.readouterr().out
    assert "9 faces on 5 pictures" in shown and "0 of 9 faces missed" in shown


def test_a_data_set_agrees_with_its_own_export(tmp_path: Path, pictures: Path) -> None:
    """Every figure is perfect but the calibration, which is the distance from certainty."""
    output = tmp_path / "out"
    assert run(output, pictures) == 0
    told = judged(output, output / "exports" / "annotations" / "instances.json")
    assert (told["boxes"]["ap"], told["boxes"]["ap_low"]) == (1, 1)
    assert value(told, "accuracy") == value(told, "macro_f1") == value(told, "coverage") == 1
    confidences = pl.read_parquet(output / "annotations" / "*.parquet")["confidence"]
    assert value(told, "ece") == pytest.approx(1 - confidences.mean(), abs=1e-5)  # type: ignore[operator]


def test_real_pictures_are_judged_by_their_folders(tmp_path: Path, shared: Path) -> None:
    """Nine faces that people posed, in folders named as the library that they come from calls its expressions."""
    posed = shared / "data" / "images" / "face"
    for path in sorted(posed.glob("face-apijs__*.jpg")):
        folder = tmp_path / "truth" / path.stem.removeprefix("face-apijs__").removesuffix("_cropped")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).write_bytes(path.read_bytes())
    output = tmp_path / "out"
    assert run(output, posed / "face-apijs__*.jpg") == 0
    told = judged(output, tmp_path / "truth", "--at-least", "coverage=1,accuracy=.8")
    assert (told["truth"]["format"], told["truth"]["faces"], told["boxes"]) == ("folders", 9, None)
    assert {one["label"] for one in told["per_class"]} >= set(EXPRESSIONS) - {"contempt"}
    assert told["classes"]["not_in_truth"] == ["contempt"]


# What counts where


def test_every_outcome_counts_where_it_belongs(out: Path, tmp_path: Path) -> None:
    """The largest face is meant; a duplicate has the label of what it copies; all else is missed, with its reason."""
    rows = ["a.jpg,happy", "b.jpg,happy", "copy.jpg,sad", "whole.jpg,fear", "nobody.jpg,sad", "held.jpg,sad"]
    rows += ["broken.jpg,sad", "clip.mp4/000001.jpg,angry", "clip.mp4/000002.jpg,angry", "elsewhere.jpg,contempt"]
    told = judged(out, table(tmp_path / "truth.csv", "file,label", *rows))
    assert missed(out) == [
        ("broken.jpg", "failed"),
        ("clip.mp4/000002.jpg", "failed"),
        ("elsewhere.jpg", "not in the data set"),
        ("held.jpg", "quarantined"),
        ("nobody.jpg", "no face found"),
    ]
    assert (told["missed"], told["truth"]["absent_pictures"], told["truth"]["crowded_pictures"]) == (5, 1, 1)
    assert value(told, "coverage") == 0.5
    assert value(told, "accuracy") == pytest.approx(4 / 5)
    assert value(told, "accuracy_counting_missed") == pytest.approx(4 / 10)
    assert told["confusion"] == {
        "labels": ["angry", "fear", "happy", "sad", "contempt"],
        "counts": [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]],
        "missed": [1, 0, 0, 3, 1],
    }
    assert told["classes"]["unknown_to_data_set"] == ["contempt"]
    assert sum(one["count"] for one in told["reliability"]) == 4  # the imported label has no confidence
    assert told["boxes"] is None and told["votes"] is None


def test_what_the_data_set_does_not_hold_can_be_left_out(out: Path, tmp_path: Path) -> None:
    """What it held and lost still counts."""
    truth = table(tmp_path / "truth.csv", "file,label", "a.jpg,happy", "broken.jpg,sad", "elsewhere.jpg,sad")
    told = judged(out, truth, "--skip-absent")
    assert missed(out) == [("broken.jpg", "failed")]
    assert (value(told, "coverage"), told["truth"]["pictures"], told["truth"]["absent_pictures"]) == (0.5, 2, 1)


def test_copies_of_a_picture_are_one_picture_to_an_interval(tmp_path: Path) -> None:
    """They say nothing new: of one picture there is nothing to resample."""
    first = picture("0.jpg", face(label="sad"))
    copies = [picture(f"{at}.jpg", outcome="duplicate", duplicate_of=first["image_id"]) for at in range(1, 10)]
    rows = [f"{at}.jpg,{'sad' if at % 2 else 'happy'}" for at in range(10)]
    out = dataset(tmp_path / "out", clean(tables(first, *copies)))
    told = judged(out, table(tmp_path / "truth.csv", "file,label", *rows))
    assert told["overall"]["accuracy"] == {"value": 0.5, "low": 0.5, "high": 0.5}


def test_faces_are_paired_by_their_boxes(out: Path, tmp_path: Path) -> None:
    """Not by size: the smaller face is judged by its own label, and one where nothing was found is missed."""
    rows = ["a.jpg,sad,300,22,52,60", "a.jpg,fear,10,20,100,120", "b.jpg,sad,400,300,40,40", "nobody.jpg,,1,1,9,9"]
    told = judged(out, table(tmp_path / "truth.csv", "file,label,x,y,w,h", *rows))
    assert (value(told, "accuracy"), value(told, "coverage")) == (0.5, 0.5)
    assert missed(out) == [("b.jpg", "no label at this place"), ("nobody.jpg", "no face found")]
    assert told["boxes"]["ap50"] == pytest.approx(2 / 3 * 51 / 101, abs=1e-6)  # half are found, by two of three
    assert [one["found"] for one in told["boxes"]["recall_by_size"]] == [0, 0, 1, 1, 0]
    assert [one["truth"] for one in told["boxes"]["recall_by_size"]] == [1, 0, 2, 1, 0]
    told = judged(out, tmp_path / "truth.csv", "--iou", ".99")
    assert value(told, "coverage") == 0.25


def test_frames_are_judged_by_number_and_by_time(out: Path, tmp_path: Path) -> None:
    """Of a video that names the label of each."""
    truth = table(tmp_path / "truth.csv", "video,pts_ms,label", "clip.mp4,0,angry", "clip.mp4,58,happy")
    assert value(judged(out, truth), "accuracy") == 0.5
    truth = table(tmp_path / "truth.csv", "video,frame_index,label", "in/clip.mp4,0,angry", "in/clip.mp4,1,angry")
    assert value(judged(out, truth), "accuracy") == 1


def test_votes_are_judged(out: Path, tmp_path: Path) -> None:
    """The label is the majority's; the divergence is of the probabilities that the tables tell."""
    rows = ["a.jpg,0,9,0", "b.jpg,5,5,0", "copy.jpg,2,8,0"]
    told = judged(out, table(tmp_path / "truth.csv", "image,sadness,happiness,nf", *rows))
    assert value(told, "accuracy") == 0.5
    assert {name: one["faces"] for name, one in told["votes"].items()} == {
        "jensen_shannon": 3,
        "majority": 2,
        "plurality": 2,
    }
    others = np.full(6, 0.1 / 6)
    p, q = np.array([0, 1, *[0] * 5]), np.array([others[0], 0.9, *others[1:]])
    half = sum(x * np.log2(x / m) for x, m in zip(p, (p + q) / 2, strict=True) if x)
    half += sum(x * np.log2(x / m) for x, m in zip(q, (p + q) / 2, strict=True) if x)
    one = judged(out, table(tmp_path / "one.csv", "image,sad,happy", "a.jpg,0,9"))
    assert one["votes"]["jensen_shannon"]["value"] == pytest.approx(half / 2, abs=1e-6)


def test_boxes_without_labels_judge_the_faces_alone(out: Path, tmp_path: Path) -> None:
    """As the truth of a detector is; a picture on which COCO names nobody counts what we found there."""
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}]
    rows = [{"image_id": 1, "category_id": 1, "bbox": box} for box in ([10, 20, 100, 120], [300, 20, 50, 60])]
    whole = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "face"}]}
    told = judged(out, table(tmp_path / "truth.json", json.dumps(whole)))
    assert (value(told, "coverage"), value(told, "accuracy"), told["per_class"]) == (1, None, [])
    assert told["boxes"]["ap50"] == pytest.approx(2 / 3, abs=1e-6)  # our best box is the one on nobody


# What is written and told


def test_figures_are_written_whole_and_nothing_else_is_touched(out: Path, tmp_path: Path) -> None:
    """Into the report or another folder, with the same bytes each time, whatever the order of the truth."""
    rows = ["a.jpg,happy", "b.jpg,happy", "clip.mp4/000001.jpg,angry", "nobody.jpg,sad"]
    before = {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()}
    judged(out, table(tmp_path / "truth.csv", "file,label", *rows))
    written = {path.name: path.read_bytes() for path in (out / "report").iterdir()}
    assert sorted(written) == [
        "evaluation-confusion.png",
        "evaluation-reliability.png",
        "evaluation.json",
        "missed.csv",
    ]
    table(tmp_path / "truth.csv", "file,label", *reversed(rows))
    assert job("--dataset", out, "--truth", tmp_path / "truth.csv", "--output", tmp_path / "else") == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "else").iterdir()} == written
    assert {path: path.read_bytes() for path in before} == before


def test_pictures_show_every_cell_and_bin(out: Path, tmp_path: Path) -> None:
    """Also where there is nothing to show; a wrong label is orange, a right one blue."""
    judged(out, table(tmp_path / "truth.csv", "file,label", "a.jpg,happy", "b.jpg,happy"))
    confusion = np.array(Image.open(out / "report" / "evaluation-confusion.png")).astype(int)
    reliability = np.array(Image.open(out / "report" / "evaluation-reliability.png")).astype(int)
    for shown in (confusion, reliability):
        red, _, blue = np.moveaxis(shown, 2, 0)
        assert min(((blue > red + 40).mean(), (red > blue + 40).mean())) > 0.005
    judged(out, table(tmp_path / "truth.csv", "file,label,x,y,w,h", "a.jpg,,1,1,9,9"))


def test_the_page_of_a_report_is_written_anew(tmp_path: Path, pictures: Path) -> None:
    """Where the data set has one."""
    output = tmp_path / "out"
    assert run(output, pictures) == 0
    page = output / "report" / "index.html"
    page.write_text("old")
    judged(output, table(tmp_path / "truth.csv", "file,label", "portrait.png,happy"))
    assert "macro" in page.read_text().lower()


def test_the_terminal_has_eighty_columns(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever there is to tell, but for names of files; and the first missed faces are named."""
    rows = [f"{number}.jpg,{EXPRESSIONS[number % 8]},10,20,100,120" for number in range(20)]
    truth = table(tmp_path / "t.csv", "file,label,x,y,w,h", "a.jpg,happy,10,20,100,120", "b.jpg,mad,1,1,9,9", *rows)
    told = judged(out, truth)
    told["truth"]["path"] = "truth.csv"
    told["unknown_labels"] = {"x" * 99: 1_000_000, **{f"label {at}": 7 for at in range(9)}}
    told["classes"]["not_in_truth"] = list(EXPRESSIONS) * 2
    assert max(map(len, evaluate.lines(told))) <= 80
    shown = capsys.readouterr().out
    assert "0.jpg at 10, 20, 100, 120: not in the data set" in shown
    assert "missed faces (10 of 20; all in" in shown
    assert "unknown labels, left out: 'mad' 1" in shown
    assert "contempt: the data set's models do not know it; its faces count as wrong" in shown


@pytest.mark.parametrize(
    ("gate", "code", "told"),
    [
        ("accuracy=.5,coverage=1", 0, ""),
        ("accuracy=.51", 1, "not reached: accuracy is 0.500, expected at least 0.51"),
        ("macro_f1=1,coverage=.2", 1, "not reached: macro_f1 is 0.667"),
        ("ap=.1", 1, "not reached: ap is -"),
        ("acuracy=.5", 2, "no figure 'acuracy'"),
        ("accuracy=half", 2, "expected a number from 0 to 1"),
        ("accuracy", 2, "expected name=value"),
    ],
)
def test_a_gate_is_an_exit_code(
    out: Path, tmp_path: Path, gate: str, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 where everything is reached, 1 where not, 2 where nobody knows what is meant."""
    truth = table(tmp_path / "truth.csv", "file,label", "a.jpg,happy", "b.jpg,happy")
    assert job("--dataset", out, "--truth", truth, "--at-least", gate) == code
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "options", "code", "told"),
    [
        (["file,label", "z.jpg,sad"], [], 2, "none of its pictures is in the data set: it names 'z.jpg'"),
        (["file,label", "a.jpg,mad"], [], 2, "names no face whose label is known; it says 'mad' 1 times"),
        (["file,label", "a.jpg,3"], [], 2, "If the numbers are codes, say which with --codes"),
        (["file,label", "z.jpg,sad", "a.jpg,mad"], ["--skip-absent"], 2, "is on a picture of the data set"),
        (["file,label", "a.jpg,sad"], ["--iou", "2"], 2, "expected a number from 0 to 1"),
        (["file,label", "a.jpg,sad"], ["--codes", "ck"], 2, "ferplus"),
        (["file,label", "a.jpg,sad"], ["--truth-format", "coco"], 2, "cannot be read as COCO"),
        (["file,label", "a.jpg,sad"], ["--output", "SET/_manifests/00000000.json/x"], 1, "Cannot write"),
        (["file,label", "a.jpg,sad"], ["--dataset", "nowhere"], 2, "nowhere is no data set"),
    ],
)
def test_mistakes_are_one_line_and_an_exit_code(
    out: Path, tmp_path: Path, rows: list[str], options: list[str], code: int, told: str, capsys: Any
) -> None:
    """2 for misuse, 1 for what could not be written."""
    named = [option.replace("SET", str(out)) for option in options]
    assert job("--dataset", out, "--truth", table(tmp_path / "truth.csv", *rows), *named) == code
    error = capsys.readouterr().err
    assert told in error and error.startswith("error: ") and error.count("\n") == 1


def test_numbers_are_labels_where_it_is_said(out: Path, tmp_path: Path) -> None:
    """3 is happy in FER2013."""
    truth = table(tmp_path / "truth.csv", "file,emotion", "a.jpg,3", "b.jpg,4")
    assert value(judged(out, truth, "--codes", "fer2013"), "accuracy") == 1


def test_help_needs_no_library() -> None:
    """It comes at once, and the job never loads Beam."""
    told = "import sys, pipelines.evaluate; sys.exit('polars' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", told], check=False).returncode == 0
    told = "import sys, pipelines.evaluation; sys.exit('apache_beam' in sys.modules or 'cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", told], check=False).returncode == 0
