"""Write what other tools read from a data set, from what is committed.

    python -m pipelines.export --dataset out/ --format coco  --output instances.json
    python -m pipelines.export --dataset out/ --format coco  --output coco/ --split train --copy-images
    python -m pipelines.export --dataset out/ --format jsonl --output labels.jsonl
    python -m pipelines.export --dataset out/ --format yolo  --output yolo/ --copy-images
    python -m pipelines.export --dataset out/ --format voc   --output voc/
    python -m pipelines.export --dataset out/ --format csv   --output tables/
    python -m pipelines.export --dataset out/ --format video --input match.mp4 --output match.labelled.mp4

coco   one JSON file: boxes, landmarks as keypoints, probabilities as attributes
jsonl  one line a picture
yolo   the layout of Ultralytics detection: data.yaml, train.txt, labels/
voc    Pascal VOC: Annotations/, ImageSets/Main/, labelmap.txt
csv    faces.csv and images.csv for pandas, R and spreadsheets
video  the video at --input with its boxes, landmarks and labels drawn in (MP4, H.264, its times and sound kept)

yolo, voc and csv, and coco with --copy-images, make a folder. It appears when it is complete, and takes the place of an
earlier export only. Pictures are not in it unless --copy-images asks for them: YOLO trainers need them, the others find
them by the names in sources.csv or coco_url. Quarantined pictures are not in yolo and voc, where a picture without a
box means that nobody is on it.
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import polars as pl

from pipelines.dataset import Dataset
from pipelines.logs import log, run_command
from pipelines.options import DEFAULT_OUTPUT, Parser
from schemas.errors import RunError, UsageError
from transforms.coco import write_coco
from transforms.copies import Copies
from transforms.csv_tables import write_csv_tables
from transforms.encoding import Categories, Written, sized
from transforms.folders import Folder, building
from transforms.jsonl import write_jsonl
from transforms.names import FileNames, file_names
from transforms.storage import printable, replacing
from transforms.voc import write_voc
from transforms.yolo import write_yolo

# Beam is never loaded here: an export starts in a second.

LAYOUT = {"coco": "annotations/instances.json", "jsonl": "labels.jsonl"}
"""Where importers look for each format of one file in a folder."""

FORMATS = ("coco", "jsonl", "yolo", "voc", "csv", "video")

_ONLY_WITH = {
    "input": ("video",),
    "split": ("coco", "voc"),
    "copy_images": ("coco", "yolo", "voc"),
    "coco_categories": ("coco", "yolo", "voc"),
}
"""Which formats an option is for."""

_SPLIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,99}")
"""Without an underscore: Datumaro takes what is behind one for a class."""

_DEFAULT_LIMITS = {"max_bytes": 256 * 2**20, "max_pixels": 64_000_000}


def export_all(dataset: Dataset, categories: Categories) -> None:
    """Write COCO and JSON lines into the data set's `exports` folder, as at the end of a run. Raises RunError."""
    for name, place in LAYOUT.items():
        export(dataset, name, dataset.path / "exports" / place, categories)


def export(dataset: Dataset, form: str, path: Path, categories: Categories) -> str:
    """Write one format ("coco" or "jsonl") to `path`; return what was written, for a person. Raises RunError."""
    with replacing(str(path)) as out:
        if form == "jsonl":
            return f"{write_jsonl(dataset.parts(), out):,} pictures"
        return _told(_write_coco(dataset, out, categories, None), "of unknown size")


def export_folder(
    dataset: Dataset, form: str, path: str, categories: Categories, split: str | None, *, copy_images: bool
) -> str:
    """Write one format ("coco", "yolo", "voc" or "csv") as a folder; return what was written, for a person.

    Raises RunError, and UsageError where something else is in the folder.
    """
    with building(path, kind=f"{form} {split}" if split else form) as folder:
        copies = _copies(dataset, folder) if copy_images else None
        written = _fill(dataset, folder, form, categories, split, copies)
        if copies and copies.missing and not copies.placed:
            raise RunError(
                f"none of the {copies.missing:,} pictures could be copied ({copies.reasons[0]}). Relative names count "
                "from the folder in which annotate ran: run this there"
            )
    told = _told(written, "of unknown size" if form == "coco" else "of unknown size or held back")
    if copies is None or not copies.missing:
        return told
    log.warning("some pictures were not copied: %s", "; ".join(copies.reasons))
    return f"{told}; {copies.missing:,} pictures could not be copied"


def _fill(
    dataset: Dataset, folder: Folder, form: str, categories: Categories, split: str | None, copies: Copies | None
) -> Written:
    parts, labels, roots = dataset.parts(), dataset.labels, dataset.roots
    match form:
        case "csv":
            return write_csv_tables(parts, folder, labels=labels, dense=_is_dense(dataset))
        case "yolo":
            return write_yolo(parts, folder, categories=categories, labels=labels, roots=roots, copies=copies)
        case "voc":
            name = split or "default"
            return write_voc(
                parts, folder, categories=categories, labels=labels, roots=roots, split=name, copies=copies
            )
        case _:
            return _fill_coco(dataset, folder, categories, split, copies)


def _fill_coco(
    dataset: Dataset, folder: Folder, categories: Categories, split: str | None, copies: Copies | None
) -> Written:
    """Write COCO and its pictures: `images` beside `annotations`, in both a folder for the split, if it has a name."""
    names = file_names(dataset.parts(), dataset.roots)
    written = Written(0, 0, 0)
    for place in _coco_places(split):
        with folder.create(place) as out:
            written = _write_coco(dataset, out, categories, names)
    if copies:
        path = pl.lit(f"images/{split}/" if split else "images/") + pl.col("picture")
        for part in dataset.parts():
            copies.put(names.of(sized(part.images)).with_columns(path=path))
    return written


def _write_coco(dataset: Dataset, out: BinaryIO, categories: Categories, files: FileNames | None) -> Written:
    return write_coco(
        dataset.parts(),
        out,
        categories=categories,
        labels=dataset.labels,
        info=dataset.info,
        roots=dataset.roots,
        dense=_is_dense(dataset),
        files=files,
    )


def _is_dense(dataset: Dataset) -> bool:
    """Tell whether any face has 68 landmarks."""
    found = dataset.scan("annotations").select("landmarks_68").filter(pl.col("landmarks_68").is_not_null()).head(1)
    return found.collect(engine="streaming").height > 0


def _copies(dataset: Dataset, folder: Folder) -> Copies:
    return Copies(folder, max_bytes=_limit(dataset, "max_bytes"), max_pixels=_limit(dataset, "max_pixels"))


def _limit(dataset: Dataset, name: str) -> int:
    """Return the largest limit under which pictures of the data set were read."""
    limits = (manifest.told.get("configuration", {}).get(name, 0) for manifest in dataset.manifests)
    return max(limits, default=0) or _DEFAULT_LIMITS[name]


def _told(written: Written, left_out: str) -> str:
    told = f"{written.images:,} pictures, {written.annotations:,} annotations"
    return f"{told}; {written.left_out:,} pictures {left_out} left out" if written.left_out else told


def _coco_places(split: str | None) -> tuple[str, ...]:
    """Return where importers look: by the split, for boxes and for keypoints."""
    if split is None:
        return (LAYOUT["coco"],)
    return tuple(f"annotations/{kind}_{split}.json" for kind in ("instances", "person_keypoints"))


def _places(output: str, form: str, split: str | None) -> list[Path]:
    """Return the files to write: `output`, or the places that importers look at where it is a folder."""
    folder = output.endswith(("/", os.sep)) or Path(output).is_dir()
    if split and not folder:
        raise UsageError(f"--split names files in a folder: expected --output {printable(output)}{os.sep}")
    within = _coco_places(split) if form == "coco" else (LAYOUT[form],)
    paths = [Path(output) / place for place in within] if folder else [Path(output)]
    for path in paths:
        if path.exists() and not path.is_file():
            raise UsageError(f"--output {printable(output)}: expected a file or a folder, found a device or a pipe")
    return paths


def _parser() -> Parser:
    parser = Parser(prog="python -m pipelines.export", description=__doc__)
    parser.add_argument("--dataset", default=DEFAULT_OUTPUT, metavar="DIR", help="data set that annotate made")
    parser.add_argument("--format", default="coco", choices=FORMATS, help="what to write")
    parser.add_argument(
        "--output",
        required=True,
        metavar="FILE_OR_DIR",
        help=f"where to. coco, jsonl: a file, or a folder ({os.sep} at its end, or there already) for "
        f"{LAYOUT['coco']} or {LAYOUT['jsonl']}; yolo, voc, csv: a new folder, or an earlier export; video: an .mp4",
    )
    parser.add_argument(
        "--coco-categories",
        default="expression",
        choices=["expression", "face"],
        help="coco, yolo, voc: one category for each expression, or one category `face`; COCO and VOC then have the "
        "expression as an attribute",
    )
    parser.add_argument(
        "--copy-images",
        action="store_true",
        help="coco, yolo, voc: put the pictures beside the labels, as hard links where the disk allows it (to edit one "
        "is to edit both), else as copies; frames of videos as JPEG. Only files that are as they were when labelled",
    )
    parser.add_argument(
        "--split",
        metavar="NAME",
        help="coco: write annotations/instances_NAME.json and person_keypoints_NAME.json; voc: ImageSets/Main/NAME.txt "
        "(default.txt without it)",
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
        if getattr(options, name) != parser.get_default(name) and options.format not in formats:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} is for --format {', '.join(formats)}; got --format {options.format}")
    if options.split is not None and not _SPLIT.fullmatch(options.split):
        raise UsageError(f"--split: expected letters, digits, dots and dashes, as in train; got {options.split!r}")
    if options.copy_images and options.output.lower().endswith(".json"):
        raise UsageError(f"--copy-images makes a folder: expected --output DIR, got {printable(options.output)}")
    if options.format == "video":
        if len(options.input or []) != 1:
            raise UsageError("--format video needs one --input: the video whose labels are to be drawn")
        if not options.output.lower().endswith(".mp4"):
            raise UsageError(f"--format video writes MP4: expected --output NAME.mp4, got {printable(options.output)}")


def main(argv: Sequence[str]) -> int:
    """Run the job; return the exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    _require_sense(options, parser)
    dataset = Dataset(options.dataset)
    form, output, categories, split = options.format, options.output, options.coco_categories, options.split
    if form == "video":
        from pipelines.label_video import label_video

        dataset.verify()
        _tell(output, label_video(dataset, options.input[0], output, max_pixels=_limit(dataset, "max_pixels")))
    elif options.copy_images or form not in LAYOUT:
        dataset.verify()
        _tell(output, export_folder(dataset, form, output, categories, split, copy_images=options.copy_images))
    else:
        paths = _places(output, form, split)
        dataset.verify()
        for path in paths:
            _tell(str(path), export(dataset, form, path, categories))
    return 0


def _tell(where: str, written: str) -> None:
    print(f"{printable(where)}: {written}")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
