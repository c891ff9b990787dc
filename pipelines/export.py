"""Write COCO or JSON lines from a data set, from what is committed. Beam is never loaded."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines.dataset import Dataset
from pipelines.logs import run_command
from pipelines.options import DEFAULT_OUTPUT, Parser
from schemas.errors import UsageError
from transforms.coco import Categories, Written, write_coco
from transforms.jsonl import write_jsonl
from transforms.storage import printable, replacing

LAYOUT = {"coco": "annotations/instances.json", "jsonl": "labels.jsonl"}
"""Where importers look for each format in a folder."""


def export_all(dataset: Dataset, categories: Categories) -> None:
    """Write every format into the data set's `exports` folder, as at the end of a run. Raises RunError."""
    for name, place in LAYOUT.items():
        export(dataset, name, dataset.path / "exports" / place, categories)


def export(dataset: Dataset, form: str, path: Path, categories: Categories) -> str:
    """Write one format ("coco" or "jsonl") to `path`; return what was written, for a person. Raises RunError."""
    with replacing(str(path)) as out:
        if form == "jsonl":
            return f"{write_jsonl(dataset.parts(), out):,} pictures"
        return _told(
            write_coco(
                dataset.parts(),
                out,
                categories=categories,
                labels=dataset.labels,
                info=dataset.info,
                roots=dataset.roots,
            )
        )


def _told(written: Written) -> str:
    told = f"{written.images:,} pictures, {written.annotations:,} annotations"
    return f"{told}; {written.left_out:,} pictures of unknown size left out" if written.left_out else told


def _place(output: str, form: str) -> Path:
    """Return the file to write: `output`, or the place that importers look at where it is a folder."""
    folder = output.endswith(("/", os.sep)) or Path(output).is_dir()
    path = Path(output) / LAYOUT[form] if folder else Path(output)
    if path.exists() and not path.is_file():
        raise UsageError(f"--output {printable(output)}: expected a file or a folder, found a device or a pipe")
    return path


def _parser() -> Parser:
    parser = Parser(prog="python -m pipelines.export", description=__doc__)
    parser.add_argument("--dataset", default=DEFAULT_OUTPUT, metavar="DIR", help="data set that annotate made")
    parser.add_argument("--format", default="coco", choices=sorted(LAYOUT), help="what to write")
    parser.add_argument(
        "--output",
        required=True,
        metavar="FILE_OR_DIR",
        help=f"where to; in a folder ({os.sep} at its end, or there already) {LAYOUT['coco']} or {LAYOUT['jsonl']}",
    )
    parser.add_argument(
        "--coco-categories",
        default="expression",
        choices=["expression", "face"],
        help="one COCO category for each expression, or one category `face` with the expression as an attribute",
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the job; return the exit code."""
    options = _parser().parse_args(argv)
    path = _place(options.output, options.format)
    dataset = Dataset(options.dataset)
    dataset.verify()
    written = export(dataset, options.format, path, options.coco_categories)
    print(f"{printable(str(path))}: {written}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
