"""Write what other tools read from a data set, from what is committed.

    python -m pipelines.export --dataset out/ --format coco  --output instances.json
    python -m pipelines.export --dataset out/ --format coco  --output coco/ --split train --copy-images
    python -m pipelines.export --dataset out/ --format yolo  --output yolo/ --copy-images --split train=.8,val=.2
    python -m pipelines.export --dataset out/ --format jsonl --output labels.jsonl
    python -m pipelines.export --dataset out/ --format voc   --output voc/
    python -m pipelines.export --dataset out/ --format csv   --output tables/
    python -m pipelines.export --dataset out/ --format cvat  --output annotations.xml
    python -m pipelines.export --dataset out/ --format label-studio --output tasks/
    python -m pipelines.export --dataset out/ --format video --input match.mp4 --output match.labelled.mp4

coco   one JSON file: boxes, landmarks as keypoints, probabilities and what came with a label as attributes
jsonl  one line a picture; --record plain writes only its name and its labels
yolo   the layout of Ultralytics detection: data.yaml, train.txt, labels/
voc    Pascal VOC: Annotations/, ImageSets/Main/, labelmap.txt
csv    faces.csv (labels.csv where labels are no expressions) and images.csv for pandas, R and spreadsheets
cvat   CVAT for images 1.1: boxes, and tags for labels of whole pictures
label-studio   tasks.json with pre-annotations, label_config.xml
video  the video at --input with its boxes, landmarks and labels drawn in (MP4, H.264, its times and sound kept)

yolo, voc, csv and label-studio make a folder, and so does any other with --copy-images or shares in --split. It appears
when it is complete, and takes the place of an earlier export only. Pictures are not in it unless --copy-images asks for
them: YOLO trainers need them, the others find them by the names in sources.csv or coco_url. Quarantined pictures are
not in yolo and voc, where a picture without a box means that nobody is on it.

--split train=.8,val=.1,test=.1 puts each picture on one side, always the same one. Copies of one picture and frames of
one video stay together, and with --split-by also the pictures of a source or a folder.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import polars as pl

from pipelines.content import Content
from pipelines.dataset import Dataset
from pipelines.logs import log, run_command
from pipelines.options import DEFAULT_OUTPUT, Parser, whole
from schemas.errors import RunError, UsageError
from transforms.coco import write_coco
from transforms.copies import Copies
from transforms.csv_tables import FACES, LABELS, write_csv_tables
from transforms.cvat import write_cvat
from transforms.encoding import CategoryLayout, Landmarks, Parts, Written, sized
from transforms.folders import Folder, building
from transforms.jsonl import write_jsonl
from transforms.label_studio import IMAGES, write_label_studio
from transforms.names import FileNames, file_names, unique_names
from transforms.places import Place, place
from transforms.splits import NAME, By, Sides, parted, read_shares
from transforms.storage import printable, replacing
from transforms.voc import write_voc
from transforms.yolo import write_yolo

# Beam is never loaded here: an export starts in a second.

LAYOUT = {"coco": "annotations/instances.json", "jsonl": "labels.jsonl"}
"""What a run leaves in the data set's exports: where importers look for each format of one file in a folder."""

FORMATS = ("coco", "jsonl", "yolo", "voc", "csv", "cvat", "label-studio", "video")

_ONE_FILE = {**LAYOUT, "cvat": "annotations.xml"}

_ONLY_WITH = {
    "input": ("video",),
    "record": ("jsonl",),
    "image_url": ("label-studio",),
    "copy_images": ("coco", "yolo", "voc", "cvat", "label-studio"),
    "coco_categories": ("coco", "yolo", "voc", "cvat"),
}
"""Which formats an option is for."""

_ONE_SPLIT, _SPLITS = ("coco", "voc"), ("coco", "yolo", "voc", "jsonl")
"""Which formats may be called a split, and which can be split."""

Record = Literal["full", "plain"]
"""Which of the two records of JSON lines."""

_DEFAULT_LIMITS = {"max_bytes": 256 * 2**20, "max_pixels": 64_000_000}


@dataclass(frozen=True)
class Split:
    """One split's name, or shares of several with how pictures come to them."""

    text: str
    seed: int = 0
    by: By | None = None
    stratify: bool = False

    @property
    def is_shares(self) -> bool:
        """Whether the pictures are to be parted."""
        return "=" in self.text

    @property
    def name(self) -> str:
        """The splits' names."""
        return ", ".join(read_shares(self.text)) if self.is_shares else self.text

    def sides(self, parts: Parts) -> Sides:
        """Return the side of each picture."""
        if not self.is_shares:
            return Sides.one(self.text)
        return Sides.of_shares(parts, read_shares(self.text), seed=self.seed, by=self.by, stratify=self.stratify)


@dataclass(frozen=True)
class Wanted:
    """What is to be written, and how; options that a format has no use for are passed over."""

    form: str
    layout: CategoryLayout = "expression"
    split: Split | None = None
    record: Record = "full"
    image_url: str = IMAGES
    copy_images: bool = False

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder that appears whole."""
        return self.form not in _ONE_FILE or self.copy_images or (self.split is not None and self.split.is_shares)


def export_all(dataset: Dataset, layout: CategoryLayout) -> None:
    """Write COCO and JSON lines into the data set's `exports` folder, as at the end of a run. Raises RunError."""
    with ThreadPoolExecutor(len(LAYOUT)) as pool:  # polars lets other threads run
        places = [(Wanted(form, layout), dataset.path / "exports" / name) for form, name in LAYOUT.items()]
        for done in [pool.submit(export, dataset, wanted, path) for wanted, path in places]:
            done.result()


def export(dataset: Dataset, wanted: Wanted, path: Place) -> str:
    """Write one file to `path`; return what was written, for a person. Raises RunError."""
    with replacing(str(path)) as out:
        return _told(wanted, _write_file(Content(dataset), wanted, out))


def export_folder(dataset: Dataset, wanted: Wanted, path: str) -> str:
    """Write one format as a folder; return what was written, for a person.

    Raises RunError, and UsageError where something else is in the folder.
    """
    with building(path, kind=f"{wanted.form} {wanted.split.name}" if wanted.split else wanted.form) as folder:
        copies = _copies(dataset, folder) if wanted.copy_images else None
        written = _fill(Content(dataset), wanted, folder, copies)
        if copies and copies.missing and not copies.placed:
            raise RunError(
                f"none of the {copies.missing:,} pictures could be copied ({copies.reasons[0]}). Relative names count "
                "from the folder in which annotate ran: run this there"
            )
    told = _told(wanted, written)
    if copies is None or not copies.missing:
        return told
    log.warning("some pictures were not copied: %s", "; ".join(copies.reasons))
    return f"{told}; {copies.missing:,} pictures could not be copied"


def _write_file(content: Content, wanted: Wanted, out: BinaryIO) -> Written:
    """Write one of the formats of one file."""
    match wanted.form:
        case "jsonl":
            return write_jsonl(content.parts, out, names=_plain_names(content, wanted))
        case "cvat":
            return _write_cvat(content, wanted, out, None)
        case _:
            return _write_coco(content, wanted, out, content.parts, None)


def _fill(content: Content, wanted: Wanted, folder: Folder, copies: Copies | None) -> Written:
    """Write one of the formats of a folder."""
    parts, categories, roots = content.parts, content.categories, content.roots
    match wanted.form:
        case "csv":
            return write_csv_tables(
                parts,
                folder,
                categories=categories,
                probabilities=content.probabilities,
                landmarks=content.landmarks,
                shares=content.has_shares,
                table=FACES if content.has_expressions else LABELS,
            )
        case "label-studio":
            return write_label_studio(
                parts, folder, categories=categories, roots=roots, address=wanted.image_url, copies=copies
            )
        case "yolo":
            sides = wanted.split.sides(parts) if wanted.split else None
            return write_yolo(
                parts, folder, layout=wanted.layout, categories=categories, roots=roots, sides=sides, copies=copies
            )
        case "voc":
            sides = wanted.split.sides(parts) if wanted.split else Sides.one("default")
            return write_voc(
                parts, folder, layout=wanted.layout, categories=categories, roots=roots, sides=sides, copies=copies
            )
        case "jsonl":
            return _fill_jsonl(content, wanted, folder)
        case "cvat":
            return _fill_cvat(content, wanted, folder, copies)
        case _:
            return _fill_coco(content, wanted, folder, copies)


def _fill_jsonl(content: Content, wanted: Wanted, folder: Folder) -> Written:
    written = Written(0, 0, 0)
    names = _plain_names(content, wanted)
    for side, parts in _sides(content, wanted).items():
        with folder.create(f"{side}.jsonl") as out:
            written += write_jsonl(parts, out, names=names)
    return written


def _plain_names(content: Content, wanted: Wanted) -> pl.Expr | None:
    return unique_names(content.parts, content.roots, as_told=True) if wanted.record == "plain" else None


def _fill_cvat(content: Content, wanted: Wanted, folder: Folder, copies: Copies | None) -> Written:
    names = file_names(content.parts, content.roots)
    with folder.create(_ONE_FILE["cvat"]) as out:
        written = _write_cvat(content, wanted, out, names)
    if copies:
        _put(copies, content.parts, names, "images/")
    return written


def _fill_coco(content: Content, wanted: Wanted, folder: Folder, copies: Copies | None) -> Written:
    """Write COCO and its pictures: `images` beside `annotations`, in both a folder or file for each split."""
    written = Written(0, 0, 0)
    names = (file_names if copies else unique_names)(content.parts, content.roots)
    for side, parts in _sides(content, wanted).items():
        of_side = Written(0, 0, 0)
        for name in _coco_places(side, content.landmarks):
            with folder.create(name) as out:
                of_side = _write_coco(content, wanted, out, parts, names)
        written += of_side
        if copies and isinstance(names, FileNames):
            _put(copies, parts, names, f"images/{side}/" if side else "images/")
    return written


def _sides(content: Content, wanted: Wanted) -> dict[str, Parts]:
    """Return the parts of each split; all of them under its name, or under none, where there is but one."""
    if wanted.split is None or not wanted.split.is_shares:
        return {wanted.split.text if wanted.split else "": content.parts}
    return parted(content.parts, wanted.split.sides(content.parts))


def _write_coco(
    content: Content, wanted: Wanted, out: BinaryIO, parts: Parts, names: FileNames | pl.Expr | None
) -> Written:
    return write_coco(
        parts,
        out,
        layout=wanted.layout,
        categories=content.categories,
        expressions=content.expressions,
        info=content.info,
        roots=content.roots,
        landmarks=content.landmarks,
        names=names,
    )


def _write_cvat(content: Content, wanted: Wanted, out: BinaryIO, names: FileNames | None) -> Written:
    return write_cvat(
        content.parts,
        out,
        layout=wanted.layout,
        categories=content.categories,
        roots=content.roots,
        names=names,
    )


def _put(copies: Copies, parts: Parts, names: FileNames, folder: str) -> None:
    """Put the pictures of known size into a folder."""
    for part in parts:
        copies.put(names.of(sized(part.images)).with_columns(path=folder + pl.col("picture")))


def _copies(dataset: Dataset, folder: Folder) -> Copies:
    return Copies(folder, max_bytes=_limit(dataset, "max_bytes"), max_pixels=_limit(dataset, "max_pixels"))


def _limit(dataset: Dataset, name: str) -> int:
    """Return the largest limit under which pictures of the data set were read."""
    limits = (told.get("configuration", {}).get(name, 0) for told in dataset.history)
    return max(limits, default=0) or _DEFAULT_LIMITS[name]


def _told(wanted: Wanted, written: Written) -> str:
    told = [
        f"{written.images:,} pictures" + ("" if wanted.form == "jsonl" else f", {written.annotations:,} annotations")
    ]
    if written.left_out:
        why = "of unknown size or held back" if wanted.form in ("yolo", "voc") else "of unknown size"
        told.append(f"{written.left_out:,} pictures {why} left out")
    if written.unnamed:
        told.append(f"{written.unnamed:,} annotations without a label or a box in their picture left out")
    return "; ".join(told)


def _coco_places(split: str, landmarks: Landmarks) -> tuple[str, ...]:
    """Return where importers look: by the split, for boxes and for keypoints."""
    if not split:
        return (LAYOUT["coco"],)
    kinds = ("instances", "person_keypoints") if landmarks else ("instances",)
    return tuple(f"annotations/{kind}_{split}.json" for kind in kinds)


def _places(dataset: Dataset, wanted: Wanted, output: str) -> list[Place]:
    """Return the files to write: `output`, or the places that importers look at where it is a folder."""
    target = place(output)
    folder = output.endswith(("/", os.sep)) or target.is_dir()
    if wanted.split and not folder:
        raise UsageError(f"--split names files in a folder: expected --output {printable(output)}{os.sep}")
    within = _coco_places(wanted.split.text, Content(dataset).landmarks) if wanted.split else (_ONE_FILE[wanted.form],)
    paths = [target / each for each in within] if folder else [target]
    for path in paths:
        if isinstance(path, Path) and path.exists() and not path.is_file():
            raise UsageError(f"--output {printable(output)}: expected a file or a folder, found a device or a pipe")
    return paths


def _parser() -> Parser:
    parser = Parser(prog="python -m pipelines.export", description=__doc__)
    parser.add_argument("--dataset", default=DEFAULT_OUTPUT, metavar="DIR", help="data set that annotate or clean made")
    parser.add_argument("--format", default="coco", choices=FORMATS, help="what to write")
    parser.add_argument(
        "--output",
        required=True,
        metavar="FILE_OR_DIR",
        help=f"where to. coco, jsonl, cvat: a file, or a folder ({os.sep} at its end, or there already) for "
        f"{', '.join(_ONE_FILE.values())}; yolo, voc, csv, label-studio: a new folder, or an earlier export; video: an "
        ".mp4",
    )
    parser.add_argument(
        "--coco-categories",
        default="expression",
        choices=["expression", "face"],
        help="coco, yolo, voc, cvat: one category for each label, or one category `face`; all but YOLO then have the "
        "label as an attribute",
    )
    parser.add_argument(
        "--copy-images",
        action="store_true",
        help="coco, yolo, voc, cvat, label-studio: put the pictures beside the labels, as hard links where the disk "
        "allows it (to edit one is to edit both), else as copies; frames of videos as JPEG. Only files that are as "
        "they were when labelled",
    )
    splits = parser.add_argument_group("splits")
    splits.add_argument(
        "--split",
        metavar="NAME|SHARES",
        help="a name, for coco: write annotations/instances_NAME.json and person_keypoints_NAME.json; for voc: "
        "ImageSets/Main/NAME.txt (default.txt without it). Or shares, train=.8,val=.1,test=.1, for coco, yolo, voc and "
        "jsonl: put each picture on one side",
    )
    splits.add_argument(
        "--split-seed", type=whole(0), default=0, metavar="N", help="another seed puts other pictures on each side"
    )
    splits.add_argument(
        "--split-by",
        choices=["source_id", "folder"],
        help="what else stays together, beside copies of a picture and frames of a video",
    )
    splits.add_argument(
        "--stratify",
        action="store_true",
        help="meet the shares for each label, nearly; without it, pictures that are added later move none",
    )
    parser.add_argument(
        "--record",
        default="full",
        choices=["full", "plain"],
        help="jsonl: image_id, file_name, timestamp_ms and labels, or only labels, with the picture's name as image_id",
    )
    parser.add_argument(
        "--image-url",
        default=IMAGES,
        metavar="URL",
        help="label-studio: what stands before a picture's name in its address, as in https://host/photos/",
    )
    parser.add_argument(
        "--input",
        action="append",
        metavar="FILE",
        help="video: the video to draw into, one that is in the data set, under whatever name; frames that were not "
        "labelled show the faces of the last one that was, in grey, for one sampling step at most",
    )
    return parser


def _require_sense(options: argparse.Namespace, parser: Parser) -> None:
    """Raise UsageError for options that do not go together."""
    for name, formats in _ONLY_WITH.items():
        if getattr(options, name) != parser.get_default(name):
            _require_format(f"--{name.replace('_', '-')}", options.format, formats)
    _require_split(options, parser)
    if options.copy_images and options.output.lower().endswith((".json", ".xml")):
        raise UsageError(f"--copy-images makes a folder: expected --output DIR, got {printable(options.output)}")
    if options.format == "video":
        if len(options.input or []) != 1:
            raise UsageError("--format video needs one --input: the video whose labels are to be drawn")
        if not options.output.lower().endswith(".mp4"):
            raise UsageError(f"--format video writes MP4: expected --output NAME.mp4, got {printable(options.output)}")


def _require_split(options: argparse.Namespace, parser: Parser) -> None:
    split = options.split
    if split is not None and "=" in split:
        _require_format("--split with shares", options.format, _SPLITS)
        read_shares(split)
        return
    for name in ("split_seed", "split_by", "stratify"):
        if getattr(options, name) != parser.get_default(name):
            raise UsageError(f"--{name.replace('_', '-')} is for --split with shares, as in --split train=.8,val=.2")
    if split is not None:
        _require_format("--split with a name", options.format, _ONE_SPLIT)
        if not NAME.fullmatch(split):
            raise UsageError(
                f"--split: expected letters, digits, dots and dashes, as in train, or shares, as in train=.8,val=.2; "
                f"got {split!r}"
            )


def _require_format(option: str, form: str, formats: Sequence[str]) -> None:
    if form not in formats:
        raise UsageError(f"{option} is for --format {', '.join(formats)}; got --format {form}")


def main(argv: Sequence[str]) -> int:
    """Run the job; return the exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    _require_sense(options, parser)
    dataset, output = Dataset(options.dataset), options.output
    if options.format == "video":
        from pipelines.label_video import label_video

        dataset.verify()
        _tell(output, label_video(dataset, options.input[0], output, max_pixels=_limit(dataset, "max_pixels")))
        return 0
    wanted = _wanted(options)
    paths = [] if wanted.is_folder else _places(dataset, wanted, output)
    dataset.verify()
    if wanted.is_folder:
        _tell(output, export_folder(dataset, wanted, output))
    for path in paths:
        _tell(str(path), export(dataset, wanted, path))
    return 0


def _wanted(options: argparse.Namespace) -> Wanted:
    split = None
    if options.split is not None:
        split = Split(options.split, options.split_seed, options.split_by, options.stratify)
    return Wanted(
        options.format, options.coco_categories, split, options.record, options.image_url, options.copy_images
    )


def _tell(where: str, written: str) -> None:
    print(f"{printable(where)}: {written}")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
