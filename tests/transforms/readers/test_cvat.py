"""CVAT's dumps are read as they come: what is visible, frame by frame, in memory that does not grow."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from schemas.errors import UsageError
from schemas.vocabulary import label_order
from tests.builders import LABELS, Parts, face, picture, tables
from tests.transforms.readers.given import put, source_of
from tests.transforms.readers.reading import read, said
from transforms.cvat import write_cvat
from transforms.encoding import CategoryLayout
from transforms.readers import cvat
from transforms.rules import clean

LABEL_NAMES = "<labels><label><name>a</name></label><label><name>b</name></label></labels>"
META = f"<meta><task><name>t</name>{LABEL_NAMES}{{}}</task>{{}}</meta>"


def images(*inner: str, meta: str = META.format("", "")) -> str:
    """Return a dump of pictures, named by number."""
    each = (f'<image id="{at}" name="{at}.jpg" width="64" height="48">{one}</image>' for at, one in enumerate(inner))
    return f"<annotations><version>1.1</version>{meta}{''.join(each)}</annotations>"


def film(*tracks: str, step: int = 1) -> str:
    """Return a dump of a video."""
    size = "<original_size><width>64</width><height>48</height></original_size>"
    meta = META.format(f"<frame_filter>step={step}</frame_filter>{size}", "<source>v.mp4</source>")
    each = (f'<track id="{at}" label="a">{one}</track>' for at, one in enumerate(tracks))
    return f"<annotations>{meta}{''.join(each)}</annotations>"


def box(frame: int, *corners: float, outside: int = 0, keyframe: int = 1, more: str = "") -> str:
    """Return a box of a track."""
    ends = " ".join(f'{end}="{value}"' for end, value in zip(("xtl", "ytl", "xbr", "ybr"), corners, strict=True))
    return f'<box frame="{frame}" outside="{outside}" occluded="0" keyframe="{keyframe}" {ends} {more}/>'


def dump(folder: Path, text: str | bytes) -> Any:
    """Return a source."""
    return source_of("cvat", put(folder / "in", d_xml=text))


def told(rows: pl.DataFrame) -> list[Any]:
    """Return the attributes."""
    return [text and json.loads(text) for text in rows["attributes"]]


def test_a_real_task_of_pictures(shared: Path, tmp_path: Path) -> None:
    """Boxes, and the boxes around lines and points, which are kept."""
    folder = shared / "data" / "annotations" / "datumaro" / "cvat_dataset" / "for_images" / "export_task"
    rows, facts = read(source_of("cvat", folder, "*.xml"), tmp_path)
    assert (facts.corners, facts.unit, facts.categories) == ("xyxy", "pixels", ("label1", "label2"))
    assert said(rows, "width", "height") == [
        ("img0.jpg", "label1", 0, 2, 4, 4, 8, 8),
        ("img0.jpg", None, 1, 2, 7, 8, 8, 8),
        ("img1.jpg", None, 1, 2, 6, 5, 10, 10),
        ("img1.jpg", "label2", 1, 2, 5, 6, 10, 10),
    ]
    first, line, *_ = told(rows)
    assert first == {"occluded": "1", "z_order": "1", "a1": "true", "a2": "v3", "a3": "0003", "a4": "2.4"}
    assert line == {"type": "polyline", "points": [[1, 2], [3, 4], [5, 6], [7, 8]]}


def test_a_real_project_has_the_pictures_of_each_subset(shared: Path, tmp_path: Path) -> None:
    """Their names repeat, so they are told with the folder in which CVAT puts them."""
    folder = shared / "data" / "annotations" / "datumaro" / "cvat_dataset" / "for_images" / "export_project"
    rows, facts = read(source_of("cvat", folder, "*.xml"), tmp_path)
    assert (rows.height, facts.categories) == (12, ("label1", "label2"))
    assert dict(rows.group_by("picture").len().iter_rows()) == {
        f"{subset}/img{at}.jpg": 2 for subset in ("Train", "Test", "Validation") for at in (0, 1)
    }


def test_a_real_video_gives_what_is_visible(shared: Path, tmp_path: Path) -> None:
    """Every third frame was labelled; between those nothing is added, and nothing where a shape is outside."""
    folder = shared / "data" / "annotations" / "datumaro" / "cvat_dataset" / "for_video"
    rows, facts = read(source_of("cvat", folder, "*.xml"), tmp_path)
    assert facts.categories == ("klhg", "z U k", "II")
    assert said(rows, "frame", "width", "height", "row") == [
        ("t.mp4", "II", 3, 4, 10, 5, 10, 25, 20, 0),
        ("t.mp4", "klhg", 2.23, 3.16, 21.95, 15.09, 10, 25, 20, 3),
        ("t.mp4", "II", 3.5, 2, 15.9, 13.88, 13, 25, 20, 5),
    ]
    assert [one["track"] for one in told(rows)] == ["0", "1", "2"]
    assert told(rows)[1]["hgl"] == "hgkf"


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ('<box label="a" xtl="1.5" ytl="2" xbr="3" ybr="4"/>', ("a", 1.5, 2, 3, 4)),
        ('<box label="a" xtl="9" ytl="2" xbr="3" ybr="x"/>', ("a", 9, 2, 3, "NaN")),  # corners as they came
        ('<box label=" " xtl="1" ytl="2" xbr="3"/>', (None, 1, 2, 3, "NaN")),
        ('<tag label="a" source="manual"/>', ("a", None, None, None, None)),
        ('<polygon label="a" points="1,2;5,9;3,1"/>', ("a", 1, 1, 5, 9)),
        ('<polygon label="a" points=""/>', ("a", "NaN", "NaN", "NaN", "NaN")),
        ('<points label="a" points="1,2;x,9"/>', ("a", "NaN", "NaN", "NaN", "NaN")),
        ('<ellipse label="a" cx="10" cy="20" rx="3" ry="4"/>', ("a", 7, 16, 13, 24)),
        ('<mask label="a" rle="3, 4" left="10" top="20" width="3" height="4"/>', ("a", 10, 20, 13, 24)),
        (
            '<cuboid label="a" xtl1="0" ytl1="10" xbl1="1" ybl1="9" xtr2="2" ytr2="8"/>',
            ("a", 0, 8, 2, 10),
        ),
        (
            '<skeleton label="a"><points label="nose" points="1,2"/><points label="eye" points="3,1"/></skeleton>',
            ("a", 1, 1, 3, 2),
        ),
        (
            '<box label="face" xtl="1" ytl="2" xbr="3" ybr="4"><attribute name="expression">sad</attribute></box>',
            ("sad", 1, 2, 3, 4),
        ),
    ],
)
def test_shapes_of_all_kinds(tmp_path: Path, inner: str, expected: tuple[Any, ...]) -> None:
    """A shape gives the box around it, a tag a label of the whole picture."""
    rows, _ = read(dump(tmp_path, images(inner, "")), tmp_path)
    assert said(rows) == [("0.jpg", *expected), ("1.jpg", None, None, None, None, None)]
    assert rows["is_label"].to_list() == [True, False]


def test_what_has_no_column_is_kept(tmp_path: Path) -> None:
    """Rotation, order, named attributes, the points of a skeleton; a confidence has its column."""
    named = '<attribute name="score">0.5</attribute><attribute name="age">old</attribute>'
    turned = f'<box label="a" xtl="1" ytl="2" xbr="3" ybr="4" rotation="30.0" z_order="2">{named}</box>'
    bones = '<skeleton label="b" z_order="0"><points label="nose" points="1,2"/></skeleton>'
    rows, _ = read(dump(tmp_path, images(turned + bones)), tmp_path)
    assert told(rows) == [
        {"rotation": "30.0", "z_order": "2", "age": "old"},
        {"z_order": "0", "type": "skeleton", "points": {"nose": [[1, 2]]}},
    ]
    assert rows["confidence"].to_list() == [0.5, None]


def test_boxes_between_key_frames_lie_on_a_line(tmp_path: Path) -> None:
    """Where a dump lists key frames only; after the last one nothing is added."""
    text = film(box(2, 0, 0, 10, 10, more='rotation="10"') + box(6, 8, 4, 18, 14, more='rotation="350"'))
    rows, _ = read(dump(tmp_path, text), tmp_path)
    assert rows["frame"].to_list() == [2, 3, 4, 5, 6]
    assert said(rows) == [("v.mp4", "a", 2 * i, i, 10 + 2 * i, 10 + i) for i in range(5)]
    assert [one.get("interpolated", False) for one in told(rows)] == [False, True, True, True, False]
    assert [float(one["rotation"]) for one in told(rows)] == pytest.approx([10, 5, 0, 355, 350])
    assert [one["keyframe"] for one in told(rows)] == ["1", "0", "0", "0", "1"]


@pytest.mark.parametrize(
    ("track", "step", "seen"),
    [
        ([box(0, 0, 0, 4, 4), box(3, 3, 3, 7, 7, outside=1), box(5, 5, 5, 9, 9)], 1, [0, 1, 2, 5]),  # away from 3 to 5
        ([box(0, 0, 0, 4, 4), box(6, 3, 3, 7, 7)], 3, [0, 3, 6]),  # every third frame is in the task
        ([box(0, 0, 0, 4, 4), box(1, 1, 1, 5, 5, keyframe=0), box(2, 2, 2, 6, 6)], 1, [0, 1, 2]),  # all are listed
        ([box(4, 0, 0, 4, 4), box(2, 1, 1, 5, 5)], 1, [4, 2]),  # out of order: as they come
        (['<polygon frame="0" outside="0" points="1,2;3,4;0,0"/>', box(3, 0, 0, 4, 4)], 1, [0, 3]),
    ],
)
def test_frames_are_those_where_a_shape_is_seen(tmp_path: Path, track: list[str], step: int, seen: list[int]) -> None:
    """Filled in only between boxes, towards the next that is listed, and in the task's steps."""
    rows, facts = read(dump(tmp_path, film("".join(track), step=step)), tmp_path)
    assert (rows["frame"].to_list(), facts.failures) == (seen, [])


def test_a_leap_over_all_frames_is_not_filled_in(tmp_path: Path) -> None:
    """Two boxes must not become two billion; that is told."""
    rows, facts = read(dump(tmp_path, film(box(0, 0, 0, 4, 4) + box(2**31 - 1, 3, 3, 7, 7))), tmp_path)
    assert rows["frame"].to_list() == [0, 2**31 - 1]
    assert [(name, error) for name, error, _ in facts.failures] == [("d.xml", "too_large")]


def test_frames_that_are_none_break_a_rule(tmp_path: Path) -> None:
    """They are told with it."""
    text = film(box(0, 0, 0, 4, 4).replace('frame="0"', 'frame="x"') + box(-3, 0, 0, 4, 4))
    rows, _ = read(dump(tmp_path, text), tmp_path)
    assert rows["rule"].to_list() == ["reference.frame", "reference.frame"]
    assert rows["detail"][0] == "expected a frame's number, found 'x'"


def test_a_video_without_shapes_is_there(tmp_path: Path) -> None:
    """As a picture without labels is."""
    for text in (film(), film(box(0, 0, 0, 4, 4, outside=1))):
        rows, _ = read(dump(tmp_path, text), tmp_path)
        assert said(rows, "is_label", "width", "frame") == [("v.mp4", None, None, None, None, None, False, 64, None)]


def test_tracks_of_a_project_belong_to_their_tasks(tmp_path: Path) -> None:
    """Each task has a video of its own."""
    tasks = "".join(f"<task><id>{at}</id><name>n{at}</name><source>v{at}.mp4</source></task>" for at in (3, 4))
    one = '<track id="0" label="a" task_id="{}">' + box(1, 0, 0, 4, 4) + "</track>"
    meta = f"<meta><project><tasks>{tasks}</tasks></project></meta>"
    text = f"<annotations>{meta}{one.format(4)}{one.format(3)}</annotations>"
    rows, _ = read(dump(tmp_path, text), tmp_path)
    assert rows["picture"].to_list() == ["v4.mp4", "v3.mp4"]


def test_labels_below_a_skeleton_are_no_categories(tmp_path: Path) -> None:
    """They name its points."""
    labels = "<label><name>body</name></label><label><name>nose</name><parent>body</parent></label>"
    text = f"<annotations><meta><job><labels>{labels}</labels></job></meta></annotations>"
    _, facts = read(dump(tmp_path, text), tmp_path)
    assert facts.categories == ("body",)


@pytest.mark.parametrize(
    ("text", "said_of_it"),
    [
        ("<annotations>\n<image></annotations>", "d.xml, line 2, column 10: mismatched tag"),
        ("<annotations>", "line 1"),
        ('<!DOCTYPE annotations [<!ENTITY a "b">]><annotations>&a;</annotations>', "document type"),
        (f'<annotations><image name="{"x" * (5 << 20)}"/></annotations>', "4,194,304"),
        (images('<box label="a">' + "".join(f'<attribute name="{i}"/>' for i in range(1_001)) + "</box>"), "1,000"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, text: str, said_of_it: str) -> None:
    """With the line and the column."""
    with pytest.raises(UsageError, match=said_of_it):
        read(dump(tmp_path, text), tmp_path)


@pytest.mark.parametrize("layout", ["expression", "face"])
def test_what_we_export_comes_back(tmp_path: Path, layout: CategoryLayout) -> None:
    """Boxes, labels, confidences; labels of the whole picture; pictures without a face."""
    faces = [face((10, 20, 100, 120), "sad", 0.75), face((None,) * 4, "happy", 0.5, landmarks=None)]
    out = io.BytesIO()
    rows = clean(tables(picture("b/a.jpg", *faces), picture("none.jpg")))
    write_cvat(Parts(rows), out, layout=layout, categories=label_order(LABELS), roots={0: ""})
    found, _ = read(dump(tmp_path, out.getvalue()), tmp_path)
    assert sorted(said(found, "confidence"), key=str) == [
        ("b/a.jpg", "happy", None, None, None, None, 0.5),
        ("b/a.jpg", "sad", 10, 20, 110, 140, 0.75),
        ("none.jpg", None, None, None, None, None, None),
    ]


def test_attributes_that_our_export_packs_are_unpacked(tmp_path: Path) -> None:
    """They came under names that the task does not declare."""
    inner = '<box label="a" xtl="1" ytl="2" xbr="3" ybr="4"><attribute name="attributes">{}</attribute></box>'
    rows, _ = read(dump(tmp_path, images(inner.format('{"pose": "left"}') + inner.format("a1"))), tmp_path)
    assert told(rows) == [{"pose": "left"}, {"attributes": "a1"}]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """200,000 boxes that are not seen take no more than one."""
    script = (
        "import sys; from pathlib import Path; from schemas.raw import Facts, Source\n"
        "from transforms.readers import cvat; from transforms.readers.rows import Options\n"
        "source = Source('cvat', 'd', '.', (sys.argv[1],), ('d.xml',))\n"
        "rows = sum(frame.height for frame in cvat.read(source, Facts(), Options({}, Path('.'))))\n"
        "told = dict(line.split(':') for line in open('/proc/self/status'))\n"
        "print(rows, told['VmHWM'].split()[0])"
    )
    taken = []
    for count in (1, 200_000):
        path = put(tmp_path, d_xml=film(box(0, 1, 2, 3, 4, outside=1) * count)) / "d.xml"
        ran = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
        rows, peak = map(int, ran.stdout.split())
        assert rows == 1  # the video itself
        taken.append(peak)
    assert taken[1] - taken[0] < 20_000, taken  # KiB; as a tree they take 80,000


@pytest.mark.parametrize(
    ("head", "is_one"),
    [
        (b"<annotations>", True),
        (b"<?xml version='1.0'?><annotations><meta>", True),
        (b"<annotation>", False),
        (b"", False),
    ],
)
def test_the_format_is_told_by_its_beginning(head: bytes, is_one: bool) -> None:
    """Whatever the file is called."""
    assert cvat.is_one(head, "a.txt") == is_one
