"""`labelstream JOB ...`: the jobs as one console script, from any folder."""

import sys
from collections.abc import Sequence
from importlib import import_module

from pipelines.logs import run_command
from schemas.errors import UsageError

JOBS = {
    "annotate": "label pictures: faces, expressions, Parquet and COCO",
    "clean": "clean label files: labels, boxes, duplicates, faults; explain, undo, review",
    "produce": "feed a Kafka topic: pictures, frames of videos, cameras; bring dead letters back",
    "export": "write COCO, YOLO, VOC, CVAT, Label Studio, CSV, JSON lines or a labelled video",
    "evaluate": "hold a data set's labels against the truth",
    "status": "how far a data set is: done, failed, in progress, pending; the story of one item",
    "compact": "make few large files of the many small ones of a data set that is fed for long",
    "models": "list, fetch and check the models",
}


def _run(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(
            "usage: labelstream JOB [options]\n\njobs:", *(f"  {job:10} {what}" for job, what in JOBS.items()), sep="\n"
        )
        return 0
    if argv[0] not in JOBS:
        raise UsageError(f"no job {argv[0]!r}: expected one of {', '.join(JOBS)}")
    return int(import_module(f"pipelines.{argv[0]}").main(argv[1:]))


def main() -> None:
    """Run the job that the command line names."""
    sys.exit(run_command(_run, sys.argv[1:]))


if __name__ == "__main__":
    main()
