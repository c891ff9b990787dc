"""Names of pictures in exports: no two alike; and where files are written, such as every file system takes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import polars as pl

from transforms.encoding import Parts, shown

MOST_BYTES = 200
"""Longest part of a path, before an id and an extension are added: file systems take 255."""

MOST_PATH_BYTES = 1000

Values = Callable[[pl.DataFrame], pl.Series]
"""A value for each picture."""

SUFFIXES = (".txt", ".xml")
"""What the exports put behind a stem, beside the picture's own extension."""

# What Windows or a list of names, one a line, would not take; a backslash is a folder to some readers. Polars' regular
# expressions cannot compute a replacement, so each character is named.
_ESCAPED = {chr(code): f"%{code:02X}" for code in (*range(32), *(ord(c) for c in '<>:"|?*\\'), *range(127, 160))} | {
    "\u2028": "%2028",
    "\u2029": "%2029",
}

_DEVICE = r"(?i)(^|/)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.[^/]*)?(/|$)"
"""Names that Windows keeps for itself, whatever their extension."""

_EXTENSION = r"[^/](\.[A-Za-z0-9]{1,8})$"


@dataclass(frozen=True)
class FileNames:
    """How each picture's files are called in an export of one file a picture."""

    name: pl.Expr
    repeated: pl.Series
    folders: pl.Series

    def of(self, images: pl.DataFrame) -> pl.DataFrame:
        """Return the pictures with `stem`, a relative path that no other has, and `picture`, the same with an end."""
        split = _split(images, self.name)
        key = pl.col("_key")
        ends = (*map(pl.lit, SUFFIXES), pl.col("_extension").str.to_lowercase())
        is_folder = pl.any_horizontal((key + end).is_in(self.folders.implode()) for end in ends)
        taken = key.is_in(self.repeated.implode()) | is_folder
        stem = pl.when(taken).then(pl.col("stem") + "-" + _short_id()).otherwise("stem")
        told = split.with_columns(stem=stem).with_columns(picture=pl.col("stem") + pl.col("_extension"))
        return told.drop("_name", "_extension", "_key")


def unique_names(parts: Parts, roots: Mapping[int, str], *, as_told: bool = False) -> pl.Expr:
    """Return an expression: each picture's name in the export, which no other picture has.

    It is the file's name (a frame's: its number under the video's name), with `as_told` to the letter. Where several
    pictures have it, each gets its root's name in front; if that does not tell them apart, the root's number too; if
    nothing does, a part of its id.
    """
    own = _own_name() if as_told else plain_name(_own_name())
    names = own
    number = pl.col("root").cast(pl.String)
    root = pl.col("root").replace_strict(_root_names(roots), default=number, return_dtype=pl.String)
    for prefix in (root, root + "-" + number, _short_id()):
        repeated = _repeated(parts, partial(_values, names))
        if not repeated.len():
            break
        names = pl.when(names.is_in(repeated.implode())).then(prefix + "/" + own).otherwise(names)
    return names


def file_names(parts: Parts, roots: Mapping[int, str]) -> FileNames:
    """Return how each picture's files are called.

    The names are those of `unique_names` without their extensions, made such that every file system takes them and that
    they stay below the folder they are put in. Names that then differ by nothing but their case, or that are a folder
    for another, get a part of their picture's id, all of them: neither shall be taken for the other.
    """
    name = unique_names(parts, roots)

    def keys(images: pl.DataFrame) -> pl.Series:
        return _split(images, name)["_key"]

    folders = pl.Series(sorted(_folders(parts, keys)), dtype=pl.String)
    return FileNames(name, _repeated(parts, keys), folders)


def _split(images: pl.DataFrame, name: pl.Expr) -> pl.DataFrame:
    """Return the pictures with `_name`, `_extension`, `stem` and what tells stems apart, step by step.

    As one expression, the name would be worked out once for every place that it stands in.
    """
    return (
        images.with_columns(_name=name)
        .with_columns(_name=_portable(pl.col("_name")))
        .with_columns(_extension=pl.col("_name").str.extract(_EXTENSION).fill_null(""))
        .with_columns(stem=pl.when(_too_long(pl.col("_name"))).then(_short_id()).otherwise(_without_extension()))
        .with_columns(_key=_folded(pl.col("stem")))
    )


def plain_name(name: pl.Expr) -> pl.Expr:
    """Return an expression: a relative name with forward slashes."""
    return (
        name.str.replace_all("\\", "%5C", literal=True)
        .str.replace_all("://", "/", literal=True)
        .str.strip_chars_start("/")
    )


def _own_name() -> pl.Expr:
    number = pl.col("frame_index").cast(pl.String).str.zfill(6)
    path = pl.col("file_name") + "/" + number + ".jpg"
    frame = pl.when(pl.col("video_id").is_not_null()).then(path)
    return pl.coalesce(frame, "file_name", "image_id")


def _short_id() -> pl.Expr:
    return pl.col("image_id").str.head(16)


def _root_names(roots: Mapping[int, str]) -> dict[int, str]:
    """Return the last part of each root's name; `root` where there is none, as for `/` and `.`."""
    leaves = {number: name.replace("\\", "/").rstrip("/").split("/")[-1] for number, name in roots.items()}
    return {number: "root" if leaf in ("", ".", "..") else leaf for number, leaf in leaves.items()}


def _portable(name: pl.Expr) -> pl.Expr:
    """Return an expression: the name as a relative path that every file system takes, but for its length."""
    portable = (
        name.str.replace_many(_ESCAPED)
        .str.replace_all(r"/+", "/")
        .str.strip_chars("/")
        .str.replace_all(r"\.(/|$)", "%2E$1")  # `..` and `.` too
        .str.replace_all(r" (/|$)", "%20$1")
        .str.replace_all(r"(^|/) ", "$1%20")
        .str.replace("^#", "%23")  # a comment in some lists
    )
    for _ in range(2):  # two of them side by side share a slash
        portable = portable.str.replace_all(_DEVICE, "${1}${2}_${3}${4}")
    return portable


def _too_long(name: pl.Expr) -> pl.Expr:
    longest = name.str.split("/").list.eval(pl.element().str.len_bytes()).list.max()
    return (longest > MOST_BYTES) | (name.str.len_bytes() > MOST_PATH_BYTES) | (name == "")


def _without_extension() -> pl.Expr:
    name, extension = (pl.col(column) for column in ("_name", "_extension"))
    return name.str.head(name.str.len_chars().cast(pl.Int64) - extension.str.len_chars().cast(pl.Int64))


def _folded(name: pl.Expr) -> pl.Expr:
    """Return an expression: what macOS and Windows take for the same name."""
    return name.str.normalize("NFC").str.to_lowercase()


def _folders(parts: Parts, keys: Values) -> set[str]:
    found: set[str] = set()
    for part in parts:
        parents = keys(shown(part.images)).str.extract("^(.*)/").drop_nulls().unique()
        found.update(folder for parent in parents for folder in _ancestry(parent))
    return found


def _ancestry(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition("/")[0]


def _repeated(parts: Parts, values: Values) -> pl.Series:
    """Return the values that several pictures have. Hashes find them in 8 bytes a picture, the values decide."""
    hashes = pl.concat([values(shown(part.images)).hash() for part in parts] or [pl.Series(dtype=pl.UInt64)])
    suspect = hashes.filter(hashes.is_duplicated()).unique()
    if not suspect.len():
        return pl.Series(dtype=pl.String)
    found = pl.concat([_among(values(shown(part.images)), suspect) for part in parts])
    return found.filter(found.is_duplicated()).unique().sort()


def _among(values: pl.Series, hashes: pl.Series) -> pl.Series:
    return values.filter(values.hash().is_in(hashes.implode()))


def _values(expression: pl.Expr, images: pl.DataFrame) -> pl.Series:
    return images.select(expression.alias("value")).to_series()
