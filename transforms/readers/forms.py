"""From what the user named to label files of known formats: told by content, never by the extension alone.

Files of one format that hold many pictures are a source each; those of one picture each are one source a folder that
was named. What belongs to a format beside its labels (class lists, lists of pictures) is passed over silently; any
other text is named with what it looks like.
"""

# Names are kept exactly as the user wrote them, and a million pathlib objects are slow.
# ruff: noqa: PTH112, PTH118, PTH119, PTH120, PTH122, PTH109

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from itertools import islice
from typing import Any

import polars as pl

from schemas.errors import ItemError, UsageError
from schemas.layout import MANIFESTS
from schemas.raw import Facts, Form, Source
from transforms.buckets.listing import objects_below, require_listing
from transforms.buckets.names import is_remote, join, split
from transforms.readers.datasets import is_dataset, source_of
from transforms.readers.json_parts import paths
from transforms.readers.rows import Options
from transforms.readers.strangers import belongs, content_of, looks_like
from transforms.source import is_folder, real_name
from transforms.storage import opened, printable, state_of

HEAD_BYTES = 1 << 16
"""So much of a file tells its format."""

READERS: Mapping[Form, str] = {
    "cvat": "transforms.readers.cvat",
    "voc": "transforms.readers.voc",
    "labelme": "transforms.readers.labelme",
    "label-studio": "transforms.readers.label_studio",
    "coco": "transforms.readers.coco",
    "yolo": "transforms.readers.yolo",
    "csv": "transforms.readers.tables",
    "jsonl": "transforms.readers.jsonl",
    "folders": "transforms.readers.folders",
    "parquet": "transforms.readers.datasets",
}
"""The module that reads each format. Of several that would take a file, the first does."""

PER_PICTURE: frozenset[Form] = frozenset({"voc", "labelme", "yolo"})
"""The formats of a file a picture."""

_OF_CONTENT: Mapping[str, frozenset[Form]] = {
    "xml": frozenset({"cvat", "voc", "labelme"}),
    "json": frozenset({"label-studio", "labelme", "coco", "jsonl"}),
    "text": frozenset({"yolo", "csv", "jsonl"}),  # lines of JSON may begin with a broken one
    "empty": frozenset({"yolo"}),
}
"""The formats that a file may have by how it begins."""

PICTURES = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "gif", "bmp", "dib", "tif", "tiff", "avif", "heic"),
        *("heif", "jp2", "ppm", "pgm", "pbm", "pnm", "tga", "ico", "exr", "hdr", "npy"),
        *("mp4", "m4v", "mov", "avi", "mkv", "webm", "mpg", "mpeg", "mts", "wmv", "flv", "3gp", "ogv"),
    )
)
"""The extensions of pictures and videos, which are not opened here."""

_TABLES = frozenset({".csv", ".tsv", ".tab", ".psv"})
_ASKED_AT_ONCE = 32
_LITTER = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx"})  # hidden files of other systems


@dataclass
class Found:
    """What the inputs hold. `unknown` are (name, what it looks like); `pictures` counts pictures and videos."""

    sources: list[Source] = field(default_factory=list)
    unknown: list[tuple[str, str]] = field(default_factory=list)
    pictures: int = 0


@dataclass(frozen=True, slots=True)
class _File:
    """A file: `path` opens it, `name` is relative to its input, `key` is the same however it is reached."""

    path: str
    name: str
    key: str

    @property
    def extension(self) -> str:
        return os.path.splitext(self.name)[1].lower()


@dataclass
class _Pile:
    """What a folder holds: label files by format, texts that say nothing, pictures, and whether any text is unknown."""

    labels: dict[Form, list[_File]] = field(default_factory=dict)
    empty: list[_File] = field(default_factory=list)
    pictures: list[_File] = field(default_factory=list)
    has_more: bool = False


def sources_of(inputs: Sequence[str], form: Form | None, exclude: str | None) -> Found:
    """Return the label files that `inputs` hold: files, folders, data sets of ours.

    `form` says the format of all instead of their content; `exclude` is the output folder, which is never read. Raises
    UsageError for an input that is missing, and for a file that was named and has no listed format, or not `form`.
    """
    if not inputs:
        raise UsageError("No input found: name a label file, a folder of them, or a data set with --input.")
    search = _Search(form, real_name(exclude) if exclude is not None else None)
    for name in inputs:
        search.take(name)
    return search.finished()


def read(source: Source, facts: Facts, options: Options) -> Iterator[pl.DataFrame]:
    """Return the source's rows, with the columns of `schemas.raw.RAW`. Raises UsageError."""
    try:
        yield from _reader(source.form).read(source, facts, options)
    except ItemError as error:  # the file is gone, or closed
        raise UsageError(f"{printable(source.name)} cannot be read: {error}") from None


class _Search:
    """The state that the inputs of one run share."""

    def __init__(self, form: Form | None, exclude: str | None) -> None:
        self._form = form
        self._exclude = exclude  # real path
        self._found = Found()
        self._seen: set[str] = set()  # keys of the label files that were taken, and real paths of folders
        self._named: dict[tuple[Form, str], list[_File]] = {}  # files of one picture that were named one by one
        self._heads: dict[str, bytes | ItemError] = {}  # how the next files of a bucket begin

    def take(self, name: str) -> None:
        """Take in one input."""
        if not name or "\0" in name:
            raise UsageError(f"No input found: {printable(name)!r} names no file or folder.")
        if self._is_output(real_name(name)):
            raise UsageError(
                f"The input {printable(name)} lies in the output folder, which is never read as input. "
                "Choose another --output."
            )
        if is_remote(name):
            self._take_remote(name)
        elif os.path.isdir(name):
            self._take_folder(name)
        elif os.path.lexists(name):
            self._take_file(name)
        else:
            raise UsageError(f"No input found: {printable(name)} is not there (looked in {printable(os.getcwd())}).")

    def _take_remote(self, name: str) -> None:
        refused = ""
        try:
            require_listing(real_name(name))
        except OSError as error:  # to read an object by its name takes another right
            refused = f": {error.strerror}"
        if not refused and is_folder(name):
            self._take_folder(name)
        elif split(name)[1] and not name.endswith("/") and state_of(name):
            self._take_file(name)
        else:
            raise UsageError(f"No input found: {printable(name)}{refused or ': nothing lies there'}.")

    def finished(self) -> Found:
        """Return all that was found."""
        for (form, folder), files in self._named.items():
            self._found.sources.append(_source(form, files[0].path if len(files) == 1 else folder, folder, files))
        return self._found

    def _take_file(self, name: str) -> None:
        folder, base = os.path.dirname(name) or ".", os.path.basename(name)
        file = _File(name, base, f"{real_name(folder)}/{base}")
        if file.key in self._seen:
            return
        self._seen.add(file.key)
        try:
            head = _head(name)
        except ItemError as error:
            raise UsageError(f"No input found: {error}") from None
        form = _form_of(file, head) if self._form is None else _asked(self._form, file, head)
        if form is None:
            raise UsageError(
                f"{printable(name)} is of no listed format: {_told(file, head)}. Expected one of {', '.join(READERS)}."
            )
        if form in PER_PICTURE:
            self._named.setdefault((form, folder), []).append(file)
        else:
            self._found.sources.append(_source(form, name, folder, [file]))

    def _take_folder(self, name: str) -> None:
        top = name.rstrip("/") or "/"
        before = len(self._found.sources)
        pile = _Pile()
        for file in self._walk_bucket(name) if is_remote(name) else self._walk(name):
            self._sort(file, pile)
        self._found.pictures += len(pile.pictures)
        if "yolo" in pile.labels:  # a picture without labels has an empty text
            pile.labels["yolo"] = sorted([*pile.labels["yolo"], *pile.empty], key=lambda file: file.name)
        else:
            self._found.unknown += [(printable(file.path), "it is empty") for file in pile.empty]
        for form, files in pile.labels.items():
            if form in PER_PICTURE:
                self._found.sources.append(_source(form, top, top, files))
            else:
                self._found.sources += [_source(form, file.path, os.path.dirname(file.path), [file]) for file in files]
        is_bare = len(self._found.sources) == before and not pile.has_more and not pile.empty
        if any("/" in file.name for file in pile.pictures) and self._form in (None, "folders") and is_bare:
            self._found.sources.append(_source("folders", top, top, pile.pictures))
        if self._form is not None and len(self._found.sources) == before:
            raise UsageError(f"--format {self._form} does not fit {printable(name)}: nothing in it is {self._form}.")

    def _sort(self, file: _File, pile: _Pile) -> None:
        """Put a file where it belongs."""
        if file.extension in PICTURES:
            pile.pictures.append(file)
            return
        if self._form == "folders" or file.key in self._seen:
            return
        self._seen.add(file.key)
        head = self._heads.pop(file.path) if file.path in self._heads else _tried_head(file.path)
        if isinstance(head, ItemError):
            self._found.unknown.append((printable(file.path), str(head)))
            return
        if belongs(file.path, head):
            return
        content = content_of(head)
        if content == "empty" and file.extension == ".txt":
            pile.empty.append(file)
            return
        form = _form_of(file, head) if self._form is None else _wanted(self._form, file, head)
        if form is not None:
            pile.labels.setdefault(form, []).append(file)
        else:
            pile.has_more |= content != "binary"
            self._found.unknown.append((printable(file.path), _told(file, head)))

    def _walk(self, top: str) -> Iterator[_File]:
        """Yield the files below a folder in the order of their names; take in the data sets of ours among its folders.

        Links are followed; hidden names, the output, and folders that were walked before are left out.
        """
        stack = [(top, "", "")]  # path, name with a slash at the end of folders, the real folder that it lies in
        while stack:
            path, name, above = stack.pop()
            if name and not name.endswith("/"):
                yield _File(path, name, f"{above}/{os.path.basename(name)}")
                continue
            real = os.path.realpath(path)
            if self._is_output(real) or real in self._seen:
                continue
            self._seen.add(real)
            if is_dataset(path):
                self._take_dataset(path)
                continue
            bases = sorted(self._entries(path), reverse=True)
            stack += [(os.path.join(path, base.rstrip("/")), name + base, real) for base in bases]

    def _walk_bucket(self, top: str) -> Iterator[_File]:
        """Yield as `_walk` does."""
        base = real_name(top)
        begins = len(split(f"{base}/")[1])
        folders: set[str] = set()
        kept, datasets = [], dict[str, None]()
        for name in (entry.key[begins:] for entry in objects_below(base)):
            folder = join(base, name.rpartition("/")[0])
            if folder in self._seen or self._is_output(join(base, name)) or not all(map(_is_shown, name.split("/"))):
                continue
            folders.add(folder)
            kept.append(name)
            above, manifests, _ = f"/{name}".partition(f"/{MANIFESTS}/")
            if manifests:
                datasets[above[1:]] = None
        self._seen |= folders
        for folder in datasets:
            self._take_dataset(join(top, folder))
        inside = tuple(f"{folder}/" if folder else "" for folder in datasets)
        files = iter([_File(join(top, name), name, join(base, name)) for name in kept if not name.startswith(inside)])
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
            while some := list(islice(files, 8 * _ASKED_AT_ONCE)):
                unknown = [file.path for file in some if file.extension not in PICTURES]
                self._heads = dict(zip(unknown, pool.map(_tried_head, unknown), strict=True))
                yield from some

    def _take_dataset(self, folder: str) -> None:
        if self._form not in (None, "parquet"):
            raise UsageError(f"--format {self._form} does not fit {printable(folder)}: it is a data set of ours.")
        self._found.sources.append(source_of(folder, printable(folder)))

    def _entries(self, folder: str) -> list[str]:
        """Return a folder's names, those of folders with a slash at the end, as `transforms.source` orders them."""
        try:
            with os.scandir(folder) as entries:
                return [
                    f"{entry.name}/" if _is_folder(entry) else entry.name for entry in entries if _is_shown(entry.name)
                ]
        except OSError as error:
            self._found.unknown.append((printable(folder), f"the folder cannot be read: {error.strerror}"))
            return []

    def _is_output(self, real: str) -> bool:
        return self._exclude is not None and (real == self._exclude or real.startswith(self._exclude + "/"))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link into a closed folder, or to itself
        return False


def _is_shown(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _LITTER


def _source(form: Form, name: str, where: str, files: Sequence[_File]) -> Source:
    return Source(
        form,
        printable(name),
        where or ".",
        tuple(file.path for file in files),
        tuple(printable(file.name) for file in files),
    )


# Formats


@cache
def _reader(form: Form) -> Any:
    return import_module(READERS[form])


def _head(path: str) -> bytes:
    """Return the beginning of a file. Raises ItemError."""
    with opened(path) as file:
        parts: list[bytes] = []
        while (left := HEAD_BYTES - sum(map(len, parts))) and (part := file.read(left)):
            parts.append(part)
    return b"".join(parts)


def _tried_head(path: str) -> bytes | ItemError:
    try:
        return _head(path)
    except ItemError as error:
        return error


def _form_of(file: _File, head: bytes) -> Form | None:
    """Return the listed format of a file, or None."""
    fitting = _OF_CONTENT.get(content_of(head), frozenset())
    form = next((form for form in READERS if form in fitting and _reader(form).is_one(head, file.path)), None)
    return None if form == "coco" and _other_coco(file.path, head) else form


def _fits(form: Form, file: _File, head: bytes) -> bool:
    """Say whether a file has this format, whatever else it may be."""
    return form in _OF_CONTENT.get(content_of(head), ()) and bool(_reader(form).is_one(head, file.path))


def _asked(form: Form, file: _File, head: bytes) -> Form:
    """Return the format that was asked for a file that was named. Raises UsageError where it is something else."""
    if form in ("folders", "parquet"):
        raise UsageError(f"--format {form} is for folders: {printable(file.path)} is a file.")
    other = _form_of(file, head)
    if _fits(form, file, head) or (other is None and form in _OF_CONTENT.get(content_of(head), ())):
        return form
    found = f"by its content it is {other}" if other is not None else _told(file, head)
    raise UsageError(f"--format {form} does not fit {printable(file.path)}: {found}.")


def _wanted(form: Form, file: _File, head: bytes) -> Form | None:
    """Return the format that was asked for where a file of a folder has it; tables may tell it by their names only."""
    is_table = form == "csv" and file.extension in _TABLES and content_of(head) == "text"
    return form if _fits(form, file, head) or (is_table and _form_of(file, head) is None) else None


def _told(file: _File, head: bytes) -> str:
    """Say what a file is that is not taken."""
    other = _form_of(file, head)
    return f"labels in {other}" if other is not None else _other_coco(file.path, head) or looks_like(file.path, head)


def _other_coco(path: str, head: bytes) -> str | None:
    """Say what a long COCO file is whose annotations come late, if it is no boxes or labels; None if it is."""
    found = paths(head)
    if (
        "images.item" not in found
        or any(path.startswith("annotations.item") for path in found)
        or len(head) < HEAD_BYTES
    ):
        return None
    with opened(path) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - HEAD_BYTES))
        tail = file.read(HEAD_BYTES)
    if b'"bbox"' in tail and b'"segments_info"' not in tail:
        return None
    kinds = {b'"caption"': "captions", b'"segments_info"': "panoptic"}
    return next((f"COCO {kind}: no boxes or labels of objects" for sign, kind in kinds.items() if sign in tail), None)
