"""Label files are found by their content; whatever else lies beside them is named, or known to belong to them."""

import json
import os
from pathlib import Path
from typing import get_args

import pytest

from schemas.errors import UsageError
from schemas.raw import Facts, Form, Source
from tests.builders import face, picture, tables
from tests.pipelines.committed import committed
from tests.transforms.readers.reading import read
from transforms.readers.forms import PER_PICTURE, READERS, Found, sources_of
from transforms.readers.forms import read as read_source
from transforms.readers.rows import Options
from transforms.readers.strangers import belongs, content_of, looks_like

# The real files, by their folder below `data/annotations`: what each is taken for. Everything that is no picture and
# not named here belongs to the labels beside it: class lists, lists of pictures, configurations.
REAL: dict[str, dict[str, str]] = {
    "coco": {
        "croissant_coco2014_mini/data": "instances_train2014.json",
        "datumaro/coco_dataset/coco/annotations": (
            "image_info_train.json image_info_val.json instances_train.json instances_val.json labels_train.json "
            "labels_val.json person_keypoints_train.json person_keypoints_val.json stuff_train.json stuff_val.json"
        ),
        "datumaro/coco_dataset/coco_instances/annotations": "instances_train.json instances_val.json",
        "datumaro/coco_dataset/coco_person_keypoints/annotations": (
            "person_keypoints_train.json person_keypoints_val.json"
        ),
        "datumaro/coco_dataset/coco_roboflow/train": "_annotations.coco.json",
        "datumaro/coco_dataset/coco_roboflow/val": "_annotations.coco.json",
        "datumaro/kaggle_dataset/relaxed_coco": "annotations.json",
        "datumaro/roboflow_dataset/coco/train": "_annotations.coco.json",
        "datumaro/roboflow_dataset/coco/val": "_annotations.coco.json",
    },
    "voc": {
        "bccd_voc/Annotations": "*",
        "datumaro/kaggle_dataset/relaxed_voc1/annotations": "2007_000001.xml",
        "datumaro/roboflow_dataset/voc/train": "train_001.xml train_002.xml",
        "datumaro/roboflow_dataset/voc/val": "val_001.xml",
        "datumaro/voc_dataset/voc_dataset1/Annotations": "2007_000001.xml",
        "datumaro/voc_dataset/voc_dataset2/Annotations": "@.xml a.xml b.xml c.xml d.xml",
    },
    "yolo": {
        "datumaro/kaggle_dataset/relaxed_yolo": "1.txt 2.txt",
        "datumaro/roboflow_dataset/yolo/train/labels": "train_001.txt train_002.txt",
        "datumaro/roboflow_dataset/yolo/val/labels": "val_001.txt",
        "datumaro/yolo_dataset/annotations/Annotations": "1.txt",
        "datumaro/yolo_dataset/labels/labels/train": "1.txt",
        "datumaro/yolo_dataset/labels/labels/val": "1.txt",
        "datumaro/yolo_dataset/strict/obj_train_data": "1.txt",
    },
    "labelme": {"datumaro/labelme_dataset/Annotations/subset1": "img1.xml"},
    "cvat": {
        "datumaro/cvat_dataset/for_images/export_project": "annotations.xml",
        "datumaro/cvat_dataset/for_images/export_task": "train.xml",
        "datumaro/cvat_dataset/for_video": "annotations.xml",
    },
    "label-studio": {
        "label_studio": ("test_export_csv__csv_test.json test_export_json_min__data.json test_export_yolo__data.json"),
    },
    "csv": {
        "bccd_voc": "test.csv",
        "datumaro/kaggle_dataset/image_csv_det": "ann.csv ann2.csv ann3.csv",
        "datumaro/kaggle_dataset/image_csv_multi_label": "ann.csv ann_wo_ext.csv",
        "datumaro/kaggle_dataset/image_txt_det": "ann.txt ann_single_obj.txt",
        "datumaro/open_images_dataset/v6/annotations": (
            "oidv6-train-annotations-bbox.csv oidv6-train-annotations-human-imagelabels.csv test-annotations-bbox.csv "
            "test-annotations-human-imagelabels.csv"
        ),
        "datumaro/roboflow_dataset/multiclass/train": "_classes.csv",
        "datumaro/roboflow_dataset/multiclass/val": "_classes.csv",
        "datumaro/vott_csv_dataset/dataset": "test-export.csv train-export.csv",
        "datumaro/vott_csv_dataset/dataset_with_meta_file": "test-export.csv",
        "facial_expressions": "500_picts_satz.csv legend.csv",
    },
}

TOLD: dict[str, dict[str, str]] = {
    "COCO captions: no boxes or labels of objects": {
        "croissant_coco2014_mini/data": "captions_train2014.json",
        "datumaro/coco_dataset/coco/annotations": "captions_train.json captions_val.json",
    },
    "COCO panoptic: no boxes or labels of objects": {
        "datumaro/coco_dataset/coco/annotations": "panoptic_train.json panoptic_val.json",
    },
    "no listed format: JSON lines": {
        "croissant_coco2014_mini/output": "bounding_boxes.jsonl captions.jsonl images.jsonl split_enums.jsonl",
    },
    "CelebA text": {
        "datumaro/celeba_dataset/dataset/Anno": (
            "identity_CelebA.txt list_attr_celeba.txt list_bbox_celeba.txt list_landmarks_celeba.txt"
        ),
        "datumaro/celeba_dataset/dataset/Eval": "list_eval_partition.txt",
    },
    "Datumaro JSON": {"datumaro/datumaro_dataset/legacy/annotations": "test.json train.json validation.json"},
    "Open Images hierarchy of classes": {
        "datumaro/open_images_dataset/v6/annotations": "bbox_labels_600_hierarchy.json",
    },
    "Open Images list of pictures": {"datumaro/open_images_dataset/v6/annotations": "image_ids_and_rotation.csv"},
    "Open Images names of classes": {"datumaro/open_images_dataset/v6/annotations": "oidv6-class-descriptions.csv"},
    "no listed format": {"datumaro/open_images_dataset/v6/annotations": "images.meta"},
    "CreateML JSON": {
        "datumaro/roboflow_dataset/createml/train": "_annotations.createml.json",
        "datumaro/roboflow_dataset/createml/val": "_annotations.createml.json",
    },
    "TF label map": {
        "datumaro/roboflow_dataset/tfrecord/train": "label_map.pbtxt",
        "datumaro/roboflow_dataset/tfrecord/val": "label_map.pbtxt",
        "datumaro/tf_detection_api_dataset": "label_map.pbtxt",
    },
    "DOTA or oriented YOLO text": {
        "datumaro/roboflow_dataset/yolo_obb/train/labelTxt": "train_001.txt train_002.txt",
        "datumaro/roboflow_dataset/yolo_obb/val/labelTxt": "val_001.txt",
    },
    "VoTT JSON": {
        "datumaro/vott_json_dataset/dataset": "train-export.json",
        "datumaro/vott_json_dataset/dataset_with_meta_file": "train-export.json",
    },
    "WIDER FACE text": {
        "datumaro/widerface_dataset/wider_face_split": "wider_face_train_bbx_gt.txt wider_face_val_bbx_gt.txt",
    },
    "a Label Studio project without pictures": {
        "label_studio": "test_export_csv__csv_test2.json test_export_csv__csv_test_history.json",
    },
}

EITHER = {
    "label_studio/test_export_csv__csv_test2_result.csv",  # a table of music
    "datumaro/open_images_dataset/v6/annotations/train-annotations-object-segmentation.csv",  # boxes of masks
}
"""Tables of which `transforms.readers.tables` decides whether they are labels."""


@pytest.fixture(scope="module")
def found(shared: Path) -> Found:
    """What the folder of real label files holds."""
    return sources_of([str(shared / "data/annotations")], None, None)


def listed(root: Path, table: dict[str, str]) -> set[str]:
    """Return the paths that a table names."""
    every = {
        folder: [path.name for path in (root / folder).iterdir()] for folder, files in table.items() if files == "*"
    }
    return {f"{folder}/{name}" for folder, files in table.items() for name in every.get(folder, files.split())}


@pytest.mark.parametrize("form", REAL)
def test_every_real_file_of_a_listed_format_is_found(form: str, found: Found, shared: Path) -> None:
    """And nothing else is taken for it."""
    root = shared / "data/annotations"
    taken = {os.path.relpath(file, root) for source in found.sources if source.form == form for file in source.files}
    assert taken - EITHER == listed(root, REAL[form])


def test_any_other_real_file_is_named(found: Found, shared: Path) -> None:
    """With what it looks like; what belongs to labels is neither."""
    root = shared / "data/annotations"
    told = {os.path.relpath(name, root): why for name, why in found.unknown}
    expected = {name: why for why, table in TOLD.items() for name in listed(root, table)}
    assert {name for name in told if name not in EITHER} == set(expected)
    assert {name: why for name, why in told.items() if name in expected and not why.startswith(expected[name])} == {}
    assert found.pictures == sum(path.suffix in (".jpg", ".png") for path in root.rglob("*"))


def test_every_real_source_is_read_to_the_end(found: Found, tmp_path: Path) -> None:
    """Without a file that failed."""
    for source in found.sources:
        if source.name.endswith(tuple(EITHER)):
            continue
        rows, facts = read(source, tmp_path)
        assert not facts.failures, source.name
        assert rows.height, source.name
        assert set(rows["file"]) <= set(source.names)


def test_files_of_one_picture_are_one_source_a_folder(found: Found, shared: Path) -> None:
    """Those of many pictures are a source each."""
    root = str(shared / "data/annotations")
    for form in PER_PICTURE:
        (source,) = (source for source in found.sources if source.form == form)
        assert (source.name, source.where) == (root, root)
        assert list(source.names) == sorted(source.names)
    for source in found.sources:
        if source.form not in PER_PICTURE:
            assert (source.name, source.where) == (source.files[0], str(Path(source.files[0]).parent))


# Content


COCO = json.dumps({"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], "categories": []})
RECORD = '{"image_id": "a.jpg", "labels": [{"category": "cat", "bbox": [0.5, 0.5, 1, 1]}]}\n'
TABLE = "image,label\na.jpg,cat\nb.jpg,dog\n"
VOC = "<annotation><filename>a.jpg</filename><object><name>cat</name></object></annotation>"
CVAT = '<annotations><image id="0" name="a.jpg" width="2" height="2"></image></annotations>'
YOLO = "0 0.5 0.5 0.25 0.25\n"


def write(folder: Path, files: dict[str, str | bytes]) -> str:
    """Write files below a folder; return its name."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(folder)


def taken(found: Found) -> list[tuple[str, list[str]]]:
    """Return each source's format and files, as they are called."""
    return [(source.form, list(source.names)) for source in found.sources]


@pytest.mark.parametrize(
    ("content", "form"),
    [(COCO, "coco"), (RECORD, "jsonl"), (TABLE, "csv"), (VOC, "voc"), (CVAT, "cvat"), (YOLO, "yolo")],
)
@pytest.mark.parametrize("mark", [False, True])
def test_the_extension_does_not_tell_the_format(content: str, form: str, mark: bool, tmp_path: Path) -> None:
    """Of a file that was named, and of one in a folder; with or without a byte order mark."""
    data = content.encode("utf-8-sig" if mark and form != "yolo" else "utf-8")
    folder = write(tmp_path / "in", {"labels.txt.txt": data})
    assert taken(sources_of([f"{folder}/labels.txt.txt"], None, None)) == [(form, ["labels.txt.txt"])]
    assert taken(sources_of([folder], None, None)) == [(form, ["labels.txt.txt"])]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "it is empty"),
        ("hello\nworld\n", "no listed format"),
        ("{}", "no listed format: no JSON, or an empty one"),
        ('{"a": 1, "b": {"c": 2}}', "no listed format: JSON with a, b"),
        ("<html><body></body></html>", "a web page"),
        ("<kml><x/></kml>", "no listed format: XML of <kml>"),
        (b"\0\1\2", "no text"),
        (b"PAR1....PAR1", "a Parquet file: name the folder of its data set"),
        ('{"nbformat": 4, "cells": []}', "a Jupyter notebook"),
        ('{"a": {"regions": [{"shape_attributes": {"name": "rect"}}]}}', "VGG Image Annotator JSON"),
        ("Car 0.00 0 -1.57 599 156 629 189 2.85 2.63 12.34 0.47 1.49 69.44 -1.56\n", "KITTI text"),
    ],
)
def test_files_of_no_listed_format_are_named_and_refused(content: str | bytes, told: str, tmp_path: Path) -> None:
    """Where a person named one; in a folder they are listed, beside what is found."""
    folder = write(tmp_path / "in", {"x.json": content, "labels.csv": TABLE})
    with pytest.raises(UsageError, match=r"x\.json is of no listed format: ") as caught:
        sources_of([f"{folder}/x.json"], None, None)
    assert told in str(caught.value)
    assert all(form in str(caught.value) for form in get_args(Form))
    found = sources_of([folder], None, None)
    assert [(Path(name).name, why) for name, why in found.unknown] == [("x.json", told)]
    assert taken(found) == [("csv", ["labels.csv"])]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("data.yaml", "train: x\nnc: 1\nnames: ['cat']\n"),
        ("obj.names", "cat\ndog\n"),
        ("obj.data", "classes = 1\nnames = obj.names\n"),
        ("classes.txt", "cat\ndog\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\ncat:1,2,3::\n"),
        ("train.txt", "data/a.jpg\ndata/b.jpg\n"),
        ("ImageSets/Main/trainval.txt", "a\nb\n"),
        ("ImageSets/Main/cat_trainval.txt", "a  1\nb -1\n"),
        ("ImageSets/Main/empty.txt", ""),
        ("README.md", "# Faces\n"),
        ("README.roboflow.txt", "Faces\n"),
        ("LICENSE", "MIT\n"),
        ("dataset_meta.json", '{"labels": ["cat"]}'),
        ("notes.json", '{"categories": [{"id": 0, "name": "cat"}], "info": {}}'),
        ("label_config.xml", '<?xml version="1.0"?>\n<View><Image name="image"/></View>'),
    ],
)
def test_what_belongs_to_labels_is_passed_over(name: str, content: str, tmp_path: Path) -> None:
    """Lists of classes and of pictures, and texts about the data."""
    found = sources_of([write(tmp_path / "in", {name: content, "labels/a.txt": YOLO})], None, None)
    assert (taken(found), found.unknown) == ([("yolo", ["labels/a.txt"])], [])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.txt", YOLO),  # a picture called classes.jpg
        ("train.txt", YOLO),
        ("notes.json", COCO),
        ("dataset_meta.json", COCO),
        ("data.yaml", "a: 1\n"),
        ("view.xml", VOC),
    ],
)
def test_names_alone_do_not_make_a_list(name: str, content: str) -> None:
    """The content must fit."""
    assert not belongs(f"in/{name}", content.encode())


def test_empty_texts_are_pictures_without_labels_beside_yolo(tmp_path: Path) -> None:
    """And nothing elsewhere."""
    folder = write(tmp_path / "in", {"b.txt": YOLO, "a.txt": "", "c.txt": "\n"})
    assert taken(sources_of([folder], None, None)) == [("yolo", ["a.txt", "b.txt", "c.txt"])]
    other = write(tmp_path / "other", {"a.csv": TABLE, "a.txt": ""})
    found = sources_of([other], None, None)
    assert (taken(found), found.unknown) == ([("csv", ["a.csv"])], [(f"{other}/a.txt", "it is empty")])


def test_a_long_file_of_captions_is_told_by_its_end(tmp_path: Path) -> None:
    """Though it begins as COCO does."""
    images = [{"id": number, "file_name": f"{number:09}.jpg"} for number in range(3_000)]
    caption, label = (
        {"id": 1, "image_id": 1, "caption": "x"},
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1] * 4},
    )
    told = {name: json.dumps({"images": images, "annotations": [one]}) for name, one in (("c", caption), ("l", label))}
    folder = write(tmp_path / "in", {"captions.json": told["c"], "labels.json": told["l"]})
    found = sources_of([folder], None, None)
    assert taken(found) == [("coco", ["labels.json"])]
    assert [why for _, why in found.unknown] == ["COCO captions: no boxes or labels of objects"]
    with pytest.raises(UsageError, match="COCO captions"):
        sources_of([f"{folder}/captions.json"], None, None)


@pytest.mark.parametrize(
    ("head", "content"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf \n", "empty"),
        ("<a/>".encode("utf-16"), "xml"),
        (b" [1]", "json"),
        (b"a\0b", "binary"),
        (b"PAR1", "parquet"),
        (b"caf\xe9", "text"),
    ],
)
def test_contents_are_told_by_how_they_begin(head: bytes, content: str) -> None:
    """In any encoding."""
    assert content_of(head) == content
    assert looks_like("x.bin", head)


# Inputs


def test_files_that_were_named_one_by_one_are_a_source_a_folder(tmp_path: Path) -> None:
    """Where they are of one picture each, as a shell's glob names them; called by their own names."""
    folder = write(tmp_path / "in", {"a/1.xml": VOC, "a/2.xml": VOC, "b/1.xml": VOC, "a/x.json": COCO})
    names = [f"{folder}/{name}" for name in ("a/1.xml", "a/x.json", "a/2.xml", "b/1.xml")]
    found = sources_of(names, None, None)
    assert found.sources == [
        Source("coco", names[1], f"{folder}/a", (names[1],), ("x.json",)),
        Source("voc", f"{folder}/a", f"{folder}/a", (names[0], names[2]), ("1.xml", "2.xml")),
        Source("voc", names[3], f"{folder}/b", (names[3],), ("1.xml",)),
    ]


def test_names_without_a_folder_lie_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And open from here."""
    write(tmp_path, {"labels.csv": TABLE})
    monkeypatch.chdir(tmp_path)
    assert sources_of(["labels.csv"], None, None).sources == [
        Source("csv", "labels.csv", ".", ("labels.csv",), ("labels.csv",))
    ]
    assert sources_of(["."], None, None).sources == [
        Source("csv", "./labels.csv", ".", ("./labels.csv",), ("labels.csv",))
    ]


def test_folders_are_walked_as_everywhere(tmp_path: Path) -> None:
    """Sorted, links followed once, hidden names and the output left out, each file once however it is reached."""
    folder = tmp_path / "in"
    write(folder, {"b/1.xml": VOC, "a.b/1.xml": VOC, ".hidden/1.xml": VOC, ".x.xml": VOC, "out/1.xml": VOC})
    write(tmp_path / "elsewhere", {"9.xml": VOC})
    (folder / "c").symlink_to(tmp_path / "elsewhere")
    (folder / "d").symlink_to(folder / "b")
    (folder / "loop").symlink_to(folder)
    (folder / "gone.xml").symlink_to(tmp_path / "nowhere")
    found = sources_of([str(folder), f"{folder}/b", f"{folder}/b/1.xml"], None, str(folder / "out"))
    assert taken(found) == [("voc", ["a.b/1.xml", "b/1.xml", "c/9.xml"])]
    file_first = sources_of([f"{folder}/b/1.xml", str(folder)], None, str(folder / "out"))
    assert sorted(names for _, names in taken(file_first)) == [["1.xml"], ["a.b/1.xml", "c/9.xml"]]
    assert [(name, "is not there" in why) for name, why in found.unknown] == [(f"{folder}/gone.xml", True)]


def test_a_pipe_is_named_and_not_waited_for(tmp_path: Path) -> None:
    """In a folder, and where it was named."""
    folder = write(tmp_path / "in", {"a.csv": TABLE})
    os.mkfifo(f"{folder}/pipe.json")
    assert "a pipe" in sources_of([folder], None, None).unknown[0][1]
    with pytest.raises(UsageError, match="is a pipe, not a file"):
        sources_of([f"{folder}/pipe.json"], None, None)


@pytest.mark.parametrize("name", ["nowhere", "nowhere/x.json", "", "a\0b"])
def test_missing_inputs_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, by name."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="No input found"):
        sources_of([name], None, None)
    with pytest.raises(UsageError, match="No input found"):
        sources_of([], None, None)


def test_the_output_is_never_an_input(tmp_path: Path) -> None:
    """Nor what lies in it."""
    folder = write(tmp_path / "out", {"x/a.csv": TABLE})
    for name in (folder, f"{folder}/x", f"{folder}/x/a.csv"):
        with pytest.raises(UsageError, match="lies in the output folder"):
            sources_of([name], None, folder)


def test_data_sets_of_ours_are_a_source_each(tmp_path: Path) -> None:
    """Named, or somewhere below a folder that is."""
    committed(tmp_path / "in" / "sets" / "one", tables(picture("a.jpg", face())))
    write(tmp_path / "in", {"a.csv": TABLE})
    direct = sources_of([str(tmp_path / "in/sets/one")], None, None)
    below = sources_of([str(tmp_path / "in")], None, None)
    assert [source.form for source in below.sources] == ["parquet", "csv"]
    assert direct.sources == below.sources[:1]
    assert read(direct.sources[0], tmp_path)[0]["picture"].to_list() == ["a.jpg"]
    with pytest.raises(UsageError, match=r"--format coco does not fit .*: it is a data set of ours"):
        sources_of([str(tmp_path / "in/sets/one")], "coco", None)


def test_folders_named_by_label_are_a_source_where_nothing_else_tells(tmp_path: Path) -> None:
    """Or where a person says so; pictures beside labels are just pictures."""
    pictures: dict[str, str | bytes] = {"happy/a.jpg": b"x", "sad/b.PNG": b"x", "c.jpg": b"x"}
    folder = write(tmp_path / "in", pictures)
    found = sources_of([folder], None, None)
    assert taken(found) == [("folders", ["c.jpg", "happy/a.jpg", "sad/b.PNG"])]
    assert (found.sources[0].where, found.pictures) == (folder, 3)
    labelled = write(tmp_path / "labelled", {**pictures, "x.csv": TABLE})
    assert [form for form, _ in taken(sources_of([labelled], None, None))] == ["csv"]
    assert [form for form, _ in taken(sources_of([labelled], "folders", None))] == ["folders"]
    strange = write(tmp_path / "strange", {**pictures, "x.txt": "hello\n"})
    assert taken(sources_of([strange], None, None)) == []
    flat = sources_of([write(tmp_path / "flat", {"a.jpg": b"x"})], None, None)
    assert (flat.sources, flat.pictures) == ([], 1)


# --format


def test_the_format_may_be_said(tmp_path: Path) -> None:
    """Then only files of it are taken from a folder; the others are named."""
    folder = write(tmp_path / "in", {"a.xml": VOC, "b.json": COCO, "c.csv": "17;x\n18;y\n", "classes.txt": "cat\n"})
    found = sources_of([folder], "coco", None)
    assert taken(found) == [("coco", ["b.json"])]
    assert (f"{folder}/a.xml", "labels in voc") in found.unknown
    assert taken(sources_of([folder], "csv", None)) == [("csv", ["c.csv"])]  # whose columns a person names
    assert taken(sources_of([f"{folder}/c.csv"], "csv", None)) == [("csv", ["c.csv"])]


@pytest.mark.parametrize(
    ("content", "form", "told"),
    [
        (VOC, "coco", "by its content it is voc"),
        (COCO, "csv", "by its content it is coco"),
        (COCO, "voc", "by its content it is coco"),
        ("", "coco", "it is empty"),
        (b"\0\0", "csv", "no text"),
        (TABLE, "folders", "is for folders"),
        (TABLE, "parquet", "is for folders"),
    ],
)
def test_a_format_that_does_not_fit_is_refused(content: str | bytes, form: Form, told: str, tmp_path: Path) -> None:
    """With what the file is."""
    folder = write(tmp_path / "in", {"x": content})
    with pytest.raises(UsageError, match=f"--format {form}") as caught:
        sources_of([f"{folder}/x"], form, None)
    assert told in str(caught.value)
    if form != "folders":
        with pytest.raises(UsageError, match=f"--format {form} does not fit .*: nothing in it is {form}"):
            sources_of([folder], form, None)


# Reading


def test_every_format_has_its_reader() -> None:
    """In a module of its own."""
    assert set(READERS) == set(get_args(Form))


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    """When it is read."""
    folder = write(tmp_path / "in", {"a.json": COCO})
    (source,) = sources_of([folder], None, None).sources
    Path(folder, "a.json").unlink()
    with pytest.raises(UsageError, match=r"a\.json cannot be read: .* is not there"):
        list(read_source(source, Facts(), Options({}, tmp_path)))


def test_names_that_are_no_text_are_printable(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are shown as such, and open the file all the same."""
    folder = write(tmp_path / "in", {os.fsdecode(b"\xff.csv"): TABLE})
    (source,) = sources_of([folder], None, None).sources
    assert source.names == ("\\xff.csv",)
    assert read(source, tmp_path)[0].height == 2
