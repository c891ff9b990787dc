"""What the columns of a table hold: told by a person, by their names, or by what is in them; never by half.

Where several readings are possible, the person is asked.
"""

import contextlib
import csv
import io
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from typing import Literal

from schemas.errors import UsageError
from schemas.raw import Corners, Unit

Kind = Literal["plain", "one-hot", "votes", "pixels", "negatives", "label-studio"]
"""What stands where a label is expected: a label; a column of 0 and 1 for each; a column of counts for each; a label
beside the picture itself; a label with a confidence of 0 where it does not hold; what Label Studio exports."""

ROLES = (
    *("file", "label", "x1", "y1", "x2", "y2", "x", "y", "w", "h", "cx", "cy", "bbox"),
    *("width", "height", "confidence", "frame", "pts_ms"),
)
"""What a column may hold, as `--columns` names it."""

MAX_COLUMNS = 2_000

SEPARATORS = ",\t;|"

_NAMES: dict[str, tuple[str, ...]] = {
    "file": (
        *("filename", "imagefilename", "imagefile", "imagename", "imgname", "image", "img", "imagepath", "imgpath"),
        *("picture", "picturename", "picturefile", "photo", "photoname", "pic", "picname", "pics", "path", "pth"),
        *("filepath", "file", "fname", "subdirectoryfilepath", "subject", "imageid", "imgid", "pictureid", "imageurl"),
        *("sourceuri", "uri", "url", "video", "videoname", "videopath", "videofile", "videoid", "clip", "clipname"),
        "name",
    ),
    "label": (
        *("label", "labelname", "emotion", "emotionlabel", "expression", "facialexpression", "expressionlabel"),
        *("class", "classname", "classlabel", "category", "categoryname", "celltype", "tag", "tagname", "target"),
        *("labels", "emotions", "objectname", "objectclass", "labeltext", "sentiment", "affect", "mood"),
        *("labelid", "classid", "categoryid", "emotionid", "expressionid", "name"),
    ),
    "width": ("imgwidth", "imagewidth", "imgw", "imagew", "originalwidth", "picturewidth", "width"),
    "height": ("imgheight", "imageheight", "imgh", "imageh", "originalheight", "pictureheight", "height"),
    "confidence": ("confidence", "score", "conf", "labelconfidence", "probability", "prob", "certainty"),
    "frame": ("frame", "frameindex", "framenumber", "frameno", "frameid", "frameidx"),
    "pts_ms": ("ptsms", "timems", "timemsec"),
}
"""What columns are called, without case and signs, by what they hold; of several, the first."""

_ASKED_BOXES: tuple[tuple[Corners, tuple[str, str, str, str]], ...] = (
    ("xyxy", ("x1", "y1", "x2", "y2")),
    ("cxcywh", ("cx", "cy", "w", "h")),
    ("xywh", ("x", "y", "w", "h")),
    ("xywh", ("x1", "y1", "w", "h")),
)
_SIDES = frozenset(role for _, roles in _ASKED_BOXES for role in roles)
_SIZES = (("w", "h"), ("width", "height"))
_BOXES: tuple[tuple[Corners, tuple[str, ...]], ...] = (
    *(
        ("xyxy", corners)
        for corners in (
            *(("x1", "y1", "x2", "y2"), ("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax")),
            *(("minx", "miny", "maxx", "maxy"), ("left", "top", "right", "bottom"), ("xtl", "ytl", "xbr", "ybr")),
            *(("startx", "starty", "endx", "endy"), ("xstart", "ystart", "xend", "yend")),
        )
    ),
    *(
        ("cxcywh", (*middle, *size))
        for middle, size in product(
            (("cx", "cy"), ("xcenter", "ycenter"), ("centerx", "centery"), ("xcentre", "ycentre"), ("xc", "yc")), _SIZES
        )
    ),
    *(
        ("xywh", (*corner, *size))
        for corner, size in product(
            (("x", "y"), ("x1", "y1"), ("xmin", "ymin"), ("left", "top"), ("x0", "y0"), ("xtl", "ytl")), _SIZES
        )
    ),
)
"""What the four columns of a box are called, and what they hold; of several, the first."""

_PREFIXES = ("", "bbox", "box", "boundingbox", "bndbox", "face", "facebox", "rect", "roi", "object")
_ONE_COLUMN = ("bbox", "box", "boundingbox", "bndbox", "boxes", "bboxes", "rect", "facebox", "coordinates")

_ASIDE = frozenset(
    {
        *("source", "split", "subset", "usage", "set", "fold", "partition", "dataset", "phase", "id", "user", "userid"),
        *("annotator", "annotatorid", "worker", "workerid", "username", "author", "license", "licence", "date", "time"),
        *(
            "timestamp",
            "comment",
            "comments",
            "note",
            "notes",
            "description",
            "md5",
            "sha256",
            "hash",
            "origin",
            "model",
        ),
        *("truncated", "difficult", "occluded", "iscrowd", "isoccluded", "istruncated", "isgroupof", "isdepiction"),
        *("isinside", "area", "gender", "age", "race", "ethnicity", "createdat", "updatedat"),
    }
)
"""What is never taken for a label by its content."""

_EXPRESSIONS = frozenset(
    {
        *("anger", "angry", "disgust", "disgusted", "fear", "fearful", "afraid", "scared", "happy", "happiness", "joy"),
        *("sad", "sadness", "surprise", "surprised", "neutral", "contempt", "contemptuous"),
    }
)
_NONE_OF_THEM = frozenset({"unknown", "nf", "notaface", "nonface", "none", "uncertain"})
_FLAGS = frozenset({"0", "1", "-1", "0.0", "1.0", "-1.0", "true", "false", "yes", "no", ""})

_LABEL_STUDIO = frozenset({"annotationid", "annotator", "leadtime"})
_LABEL_STUDIO_OWN = _LABEL_STUDIO | {"id", "createdat", "updatedat", "agreement"}
_OPEN_IMAGES_LABELS = {"imageid", "source", "labelname", "confidence"}
_OPEN_IMAGES_BOXES = {"imageid", "labelname", "xmin", "xmax", "ymin", "ymax"}
_OPEN_IMAGES_MASKS = {"imageid", "labelname", "boxxmin", "boxxmax", "boxymin", "boxymax"}
_NO_LABELS = (
    {"labelname", "displayname"},
    {"imageid", "subset", "originalurl"},
    {"picture", "sourceuri", "sha256", "imageid"},
    {"filename", "sourceuri", "outcome", "duplicateof"},
)
"""Headers of tables that lie beside labels: two of Open Images, and our own lists of pictures."""

_RAFDB = "list_patition_label.txt"
"""RAF-DB's list, whose cells lie between spaces; in any other file a person must have named columns for that."""

_SHAPES = re.compile(r'"(?:\w*labels|choices|original_width)"\s*:')
_SAMPLE_ROWS = 200
_NUMBER = re.compile(r"[-+]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf(?:inity)?)", re.IGNORECASE)
_PICTURE = re.compile(
    r"(?is).*\w\.(?:jpe?g|jpe|png|gif|bmp|tiff?|webp|avif|hei[cf]|jp2|p[gpnb]m|mp4|m4v|avi|mov|mkv|webm|mpe?g|wmv|flv)"
)
_SAMPLE_CHARS = 1_000


@dataclass(frozen=True)
class Layout:
    """Where a table holds what; columns are counted from 0. `labels` are those that stand for a label each."""

    separator: str
    has_header: bool
    names: tuple[str, ...]
    kind: Kind
    at: Mapping[str, int]
    box: tuple[int, int, int, int] | None = None
    corners: Corners | None = None
    unit: Unit | None = None
    labels: tuple[int, ...] = ()
    spaced: bool = False  # spaces before quotes

    @property
    def aside(self) -> tuple[int, ...]:
        """The columns that nothing else holds."""
        taken = {*self.at.values(), *(self.box or ()), *self.labels}
        return tuple(at for at in range(len(self.names)) if at not in taken)


def looks_like_one(told: str, name: str) -> bool:
    """Tell whether a text of this name that begins so is a table of labels.

    One named as a table may need a person to say what its columns hold, unless it is known to be of something else; any
    other must be plain.
    """
    is_named = name.lower().endswith((".csv", ".tsv", ".tab", ".psv"))
    if told.lstrip()[:1] in ("{", "[", "<"):
        return False
    try:
        _, rows = _separated(told, name, {})
        header = {plain(cell) for cell in rows[0]}
        if any(names <= header for names in _NO_LABELS):
            return False
        if is_named and not header >= _LABEL_STUDIO:  # that labels texts and sounds too
            return True
        layout_of(told, name, {})
    except UsageError:
        return False
    return True


def layout_of(told: str, where: str, columns: Mapping[str, str]) -> Layout:
    """Return the layout of a table that begins so. Raises UsageError where a person must say it."""
    separator, rows = _separated(told, where, columns)
    guess = _Guess(where, separator, rows, columns)
    return guess.layout(spaced=separator == " " or _is_spaced(told, separator))


def plain(name: str) -> str:
    """Return a column's name without what spellings differ in.

    >>> plain(" Image name"), plain("XMin"), plain("file_name")
    ('imagename', 'xmin', 'filename')
    """
    return "".join(char for char in unicodedata.normalize("NFKC", name).casefold() if char.isalnum())


def is_file_name(cell: str) -> bool:
    """Tell whether a text ends in an extension.

    >>> is_file_name("a/b.jpg"), is_file_name("1.25"), is_file_name("happy")
    (True, False, False)
    """
    stem, dot, extension = cell.strip().rpartition(".")
    return bool(stem and dot) and 2 <= len(extension) <= 5 and extension.isalnum() and not extension.isdecimal()


def _is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell.strip()) is not None


def _separated(told: str, where: str, columns: Mapping[str, str]) -> tuple[str, list[list[str]]]:
    """Return the separator that makes known names, names of files, or even lines, and the first lines' cells."""
    best: tuple[tuple[float, ...], str, list[list[str]]] | None = None
    asked = {plain(name) for name in columns.values()}
    is_rafdb = where.rpartition("/")[2] == _RAFDB
    for separator in " " if is_rafdb else (*SEPARATORS, " ") if columns else SEPARATORS:
        rows = _rows(told, separator)
        if not rows:
            raise UsageError(f"{where} is empty: expected a table")
        width = len(rows[0])
        if width < 2:
            continue
        header = [plain(cell) for cell in rows[0]]
        if separator == " " and best:
            break
        known = sum(name in asked or _is_known(name) for name in header)
        files = any(is_file_name(cell) for row in rows[:20] for cell in row)
        rank = (known, files, sum(len(row) == width for row in rows) / len(rows), width)
        if best is None or rank > best[0]:
            best = (rank, separator, rows)
    if best is None:
        raise UsageError(
            f"{where} is no table: its first line has one cell, {told.strip().splitlines()[0][:60]!r}. Expected cells "
            "between commas, tabs, semicolons or bars"
        )
    if len(best[2][0]) > MAX_COLUMNS:
        raise UsageError(f"{where} has {len(best[2][0]):,} columns: expected {MAX_COLUMNS:,} at most")
    return best[1], best[2]


def _is_spaced(told: str, separator: str) -> bool:
    """Tell whether spaces stand before quotes, which are no quotes then unless spaces are passed over."""
    cells = (cell for row in _rows(told, separator, spaced=False) for cell in row)
    return any(cell[:1] == " " and cell.lstrip(" ")[:1] == '"' for cell in cells)


def _rows(told: str, separator: str, *, spaced: bool = True) -> list[list[str]]:
    reader = csv.reader(io.StringIO(told, newline="\n"), delimiter=separator, skipinitialspace=spaced)
    rows: list[list[str]] = []
    with contextlib.suppress(csv.Error):  # a cell without end: what came before is enough, and reading it says where
        rows.extend(islice((row for row in reader if any(map(str.strip, row))), _SAMPLE_ROWS))
    return rows


def _is_known(name: str) -> bool:
    return any(name in names for names in _NAMES.values()) or name in _ONE_COLUMN or name == "pixels"


@dataclass
class _Guess:
    """What is known of a table's columns so far."""

    where: str
    separator: str
    rows: list[list[str]]
    columns: Mapping[str, str]
    header: list[str] = field(default_factory=list)
    cells: list[list[str]] = field(default_factory=list)
    at: dict[str, int] = field(default_factory=dict)
    box: tuple[int, int, int, int] | None = None
    corners: Corners | None = None
    unit: Unit | None = None
    _is_named: bool = False

    def layout(self, *, spaced: bool) -> Layout:
        """Return the layout. Raises UsageError."""
        first = self.rows[0]
        has_header = self._has_header()
        self.header = [plain(cell) for cell in first] if has_header else [""] * len(first)
        body = [row for row in self.rows[has_header:] if len(row) == len(first)]
        self.cells = [[row[at].strip()[:_SAMPLE_CHARS] for row in body] for at in range(len(first))]
        self._asked(first)
        if has_header:
            self._by_name()
        kind, labels = self._kind(has_header)
        for role in [role for role, at in self.at.items() if at < 0]:
            del self.at[role]
        if "file" not in self.at and kind != "pixels":
            raise self._unsure("which column names pictures", "say which")
        names: list[str] = []
        for at, cell in enumerate(first if has_header else [""] * len(first), 1):
            name = cell.strip()
            names.append(name if name and name not in names else f"column {at}")
        return Layout(
            self.separator,
            has_header,
            tuple(names),
            kind,
            self.at,
            self.box,
            self.corners,
            self.unit,
            labels,
            spaced,
        )

    # What a person said

    def _asked(self, first: Sequence[str]) -> None:
        for role, column in self.columns.items():
            if role not in ROLES:
                raise UsageError(f"--columns: a table holds no {role!r}: expected one of {', '.join(ROLES)}")
            if column.isdecimal():
                at = int(column) - 1  # 0 says that there is none
                if at >= len(first):
                    raise UsageError(f"--columns: {self.where} has {len(first)} columns, no column {column}")
            elif plain(column) in self.header:
                at = self.header.index(plain(column))
            else:
                raise UsageError(f"--columns: {self.where} has no column {column!r}: expected one of {_shown(first)}")
            self.at[role] = at
        sides = {role: self.at.pop(role) for role in self.columns if role in _SIDES}
        if sides:
            for corners, roles in _ASKED_BOXES:
                if set(roles) == sides.keys():
                    self._take_box(corners, [sides[role] for role in roles])
                    return
            raise UsageError(
                f"--columns: {', '.join(sides)} are no box: expected x1,y1,x2,y2 or x,y,w,h or x1,y1,w,h or cx,cy,w,h"
            )

    def _take_box(self, corners: Corners | None, at: Sequence[int]) -> None:
        left, top, right, bottom = at
        self.box, self.corners = (left, top, right, bottom), corners

    # By name

    def _has_header(self) -> bool:
        first = [plain(cell) for cell in self.rows[0]]
        if any(not name.isdecimal() for name in self.columns.values()):
            return True
        if any(_PICTURE.fullmatch(cell.strip()[-_SAMPLE_CHARS:]) for cell in self.rows[0]):
            return False
        if any(name in (*_NAMES["file"], *_NAMES["label"], "pixels") for name in first) or _named_box(first):
            return True
        body = [row for row in self.rows[1:] if len(row) == len(first)]
        return any(
            not is_one(cell) and _share([row[at] for row in body], is_one) >= 0.8
            for at, cell in enumerate(self.rows[0])
            for is_one in (_is_number, is_file_name)
            if cell.strip()
        )

    def _by_name(self) -> None:
        if self.box is None and "bbox" not in self.at:
            if found := _named_box(self.header, self._taken()):
                self._take_box(*found)
            elif (at := self._first(_ONE_COLUMN)) is not None:
                self.at["bbox"] = at
        for role, names in _NAMES.items():
            if role not in self.at and (at := self._first(names)) is not None:
                self.at[role] = at
        # `name` is the last of both lists: where nothing else names the file, it does so only if there is a label.
        if "file" in self.at and self.header[self.at["file"]] == "name" and "label" not in self.at:
            cells = self.cells[self.at["file"]]
            if _share(cells, is_file_name) < 0.5:
                self.at["label"] = self.at.pop("file")
        header = set(self.header)
        if self.box and (header >= _OPEN_IMAGES_BOXES or header >= _OPEN_IMAGES_MASKS):
            self.unit = "unit"

    def _first(self, names: Sequence[str]) -> int | None:
        taken = self._taken()
        for name in names:
            for at, found in enumerate(self.header):
                if found == name and at not in taken:
                    return at
        return None

    def _taken(self) -> set[int]:
        return {*self.at.values(), *(self.box or ())}

    # By content

    def _kind(self, has_header: bool) -> tuple[Kind, tuple[int, ...]]:
        header = set(self.header)
        if header >= _LABEL_STUDIO and "file" in self.at:
            self._label_studio()
            return "label-studio", ()
        if "pixels" in header and "file" not in self.at and "label" in self.at:
            self.at["pixels"] = self.header.index("pixels")
            return "pixels", ()
        self._is_named = "file" in self.at
        if not self._is_named:
            self._find_file()
        if header == _OPEN_IMAGES_LABELS:
            return "negatives", ()
        if "label" in self.at or self.box or "bbox" in self.at:
            self._find_box(has_header)
            self._find_label()
            return "plain", ()
        votes = [at for at in self._free() if self.header[at] in _EXPRESSIONS | _NONE_OF_THEM]
        marked = {at: _share(self.cells[at], lambda cell: cell.casefold() in _FLAGS) for at in self._free()}
        flags = [at for at, share in marked.items() if share == 1]
        if has_header and sum(self.header[at] in _EXPRESSIONS for at in votes) >= 3 and not set(votes) <= set(flags):
            return "votes", tuple(votes)
        if has_header and len(flags) >= 2:
            return "one-hot", tuple(at for at, share in marked.items() if share >= 0.5)  # a wrong mark is told by line
        self._find_box(has_header)
        self._find_label()
        return "plain", ()

    def _free(self) -> Iterator[int]:
        """Return the columns that hold nothing known."""
        taken = self._taken()
        return (at for at, name in enumerate(self.header) if at not in taken and name not in _ASIDE)

    def _find_file(self) -> None:
        shares = {at: _share(self.cells[at], is_file_name) for at in self._free()}
        best = max(shares, key=shares.__getitem__, default=None)
        if best is None or shares[best] < 0.5:
            raise self._unsure("which column names pictures", f"name one of {', '.join(_NAMES['file'][:5])}, ...")
        self.at["file"] = best

    def _find_box(self, has_header: bool) -> None:
        # Where the header names pictures in a known way, it would name a box so too.
        if self.box or "bbox" in self.at or (has_header and self._is_named):
            return
        numeric = [at for at in self._free() if _share(self.cells[at], _is_number) >= 0.5]
        if len(numeric) < 4:
            return
        if len(numeric) > 4 or numeric[3] - numeric[0] != 3:
            question = f"which four of the {len(numeric)} columns of numbers are a box"
            raise self._unsure(question, "say which with x1=2,y1=3,x2=4,y2=5")
        self._take_box(None, numeric)

    def _find_label(self) -> None:
        if "label" in self.at:
            return
        free = [at for at in self._free() if any(self.cells[at])]
        words = {at: _share(self.cells[at], lambda cell: cell.casefold() in _EXPRESSIONS) for at in free}
        best = max(words, key=words.__getitem__, default=None)
        if best is not None and words[best] >= 0.5:
            self.at["label"] = best
            return
        texts = [at for at in free if _share(self.cells[at], lambda cell: _is_number(cell) or is_file_name(cell)) < 0.5]
        if len(texts) > 1:  # an id differs from line to line, a label does not
            texts = [at for at in texts if len(set(self.cells[at])) * 2 <= len(self.cells[at])] or texts
        has_box = self.box is not None or "bbox" in self.at
        if len(texts) == 1:
            self.at["label"] = texts[0]
        elif not texts and not has_box and len(free) == 1 and _share(self.cells[free[0]], _is_number) >= 0.5:
            self.at["label"] = free[0]  # numbers for names
        elif texts or not has_box:
            raise self._unsure("which column holds labels", f"name one of {', '.join(_NAMES['label'][:4])}, ...")

    def _label_studio(self) -> None:
        """Find the column of a choice; shapes tell their labels themselves, in whichever columns they are."""
        if "label" in self.at:
            return
        if (at := self._first(("choice", "choices"))) is not None:
            self.at["label"] = at
            return
        if any(_SHAPES.search(cell) for cells in self.cells for cell in cells if cell.startswith(("[{", '{"'))):
            return
        own = [at for at, name in enumerate(self.header) if name not in _LABEL_STUDIO_OWN and at not in self._taken()]
        if len(own) != 1:
            raise self._unsure("which column holds labels", "say which")
        self.at["label"] = own[0]

    def _unsure(self, question: str, advice: str) -> UsageError:
        return UsageError(
            f"{self.where}: {question}? It begins with {_shown(self.rows[0])}: {advice}, or say where it is "
            "with --columns file=1,label=2"
        )


def _named_box(header: Sequence[str], taken: Collection[int] = ()) -> tuple[Corners, list[int]] | None:
    where: dict[str, int] = {}
    for at, name in enumerate(header):
        if at not in taken:
            where.setdefault(name, at)
    for corners, names in _BOXES:
        for prefix in _PREFIXES:
            if all(prefix + name in where for name in names):
                return corners, [where[prefix + name] for name in names]
    return None


def _share(cells: Sequence[str], is_one: Callable[[str], bool]) -> float:
    """Return what share of the cells that hold something are such."""
    told = [cell for cell in cells if cell]
    return sum(map(is_one, told)) / len(told) if told else 0.0


def _shown(cells: Sequence[str]) -> str:
    return ", ".join(repr(cell[:40]) for cell in cells)[:200]
