"""Label pictures and videos: `python -m pipelines.annotate --runner=DirectRunner --input photos/ --output out/`.

Finds faces, labels the expression that each shows, and writes Parquet tables, COCO and JSON lines. Run it again and
only what is new is done.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines import options as shared
from pipelines.logs import configure, log, run_command
from pipelines.memory import pass_over, share_heaps
from pipelines.recipe import effective, with_recipe
from pipelines.requirements import require_output, require_runner, version
from schemas.errors import RunError, UsageError
from transforms.kafka.address import is_kafka
from transforms.places import Place, place

if TYPE_CHECKING:
    import polars as pl

    from pipelines.configuration import Configuration
    from pipelines.dataset import Dataset
    from pipelines.metrics import Metrics
    from pipelines.summary import Run
    from transforms.source import Listing

EPILOG = """\
examples:
  python -m pipelines.annotate --runner=DirectRunner
  python -m pipelines.annotate --runner=DirectRunner --input photos/ --input 'more/*.jpg' --output out/
  python -m pipelines.annotate --input clips/ --input photos/ --fps 5 --output out/
  python -m pipelines.annotate --input crops/ --detector none --classifier mini-xception --output fer/
  python -m pipelines.annotate --input photos/ --output out/ --retry-failed
  python -m pipelines.annotate --recipe run.toml --limit 100 --dry-run
  python -m pipelines.annotate --input kafka://localhost:9092/frames --output out/ --results kafka://localhost:9092/labels

exit codes: 0 done; 1 every new item failed, more failed than --max-failure-rate allows, or the run could not go on;
2 misuse. What is committed is never harmed: run the same command again to go on.
The labels name the appearance of an expression, not a state of mind."""


def parser() -> shared.Parser:
    """Return the parser of all options of this job."""
    made = shared.Parser(
        prog="python -m pipelines.annotate", description="\n".join(__doc__.splitlines()[2:]), epilog=EPILOG
    )
    shared.add_shared(made, "input", "output", "runner", "device")
    models = made.add_argument_group("models")
    models.add_argument(
        "--detector",
        metavar="NAME",
        help=(
            "yunet, mtcnn, none (each picture is one face, for libraries of crops), or the path of a TOML record. "
            "Default: what the data set was begun with, else yunet, or mtcnn where yunet's weights cannot be had"
        ),
    )
    models.add_argument(
        "--classifier",
        default="expression8",
        metavar="NAME",
        help="expression8, mini-xception, xception-ensemble, or the path of a TOML record",
    )
    models.add_argument(
        "--landmarks",
        default="5",
        metavar="5|68|PATH",
        help=(
            "5: those of the detector; 68: of a network of their own, with yaw, pitch and roll of the head; "
            "or the path of a TOML record of such a network"
        ),
    )
    models.add_argument(
        "--tta",
        default="none",
        choices=["none", "flip"],
        help="test-time augmentation: flip averages each face with its mirror image",
    )
    models.add_argument(
        "--detect-size",
        type=shared.detect_size,
        default=640,
        metavar="N|full",
        help=(
            "long side in pixels at which faces are looked for; crops come from the full picture. "
            "full finds far faces, slowly"
        ),
    )
    models.add_argument(
        "--detect-threshold",
        type=shared.share,
        metavar="SCORE",
        help="least detection score, 0..1 (default: the record's own)",
    )
    models.add_argument(
        "--min-face",
        type=shared.whole(0),
        default=20,
        metavar="PX",
        help="least long side of a face's box, in pixels of the full picture; smaller ones are only counted",
    )
    videos = made.add_argument_group("videos (without these options every frame is labelled)")
    frames = videos.add_mutually_exclusive_group()
    frames.add_argument(
        "--fps",
        type=shared.fps,
        metavar="N",
        help="label at most N frames a second, those nearest to equal steps of time: 5, 0.5, 1/3",
    )
    frames.add_argument("--keyframes", action="store_true", help="label the first frame and each key frame: fast")
    rows = made.add_argument_group("what is kept")
    rows.add_argument(
        "--duplicates",
        default="exact",
        choices=["exact", "near", "keep"],
        help=(
            "exact: a file with the same bytes as another is a duplicate of it; near: also a picture that shows the "
            "same, resized, encoded anew, brightened or slightly cropped; keep: label them too"
        ),
    )
    rows.add_argument(
        "--crops",
        action="store_true",
        help="store each face's picture in a table `crops` (without this no pixels are stored)",
    )
    rows.add_argument(
        "--preview",
        type=shared.whole(0, 1000),
        default=0,
        metavar="N",
        help="draw a contact sheet of N pictures with boxes, landmarks and labels: report/preview.png",
    )
    rows.add_argument(
        "--coco-categories",
        default="expression",
        choices=["expression", "face"],
        help="one COCO category for each expression, or one category `face`",
    )
    shared.add_shared(rows, "no-export")
    topics = made.add_argument_group("topics of Kafka (with --input kafka://host:port/topic[,topic or pattern])")
    topics.add_argument("--results", metavar="KAFKA", help="send a record of every item to kafka://host:port/topic")
    topics.add_argument(
        "--dead-letter", metavar="KAFKA", help="send messages that failed to kafka://host:port/topic, with the reason"
    )
    topics.add_argument(
        "--review-queue", metavar="KAFKA", help="send what waits for a person to kafka://host:port/topic"
    )
    topics.add_argument(
        "--review-below",
        type=shared.share,
        metavar="SHARE",
        help="labels of which the model is less sure than this (0..1) also wait for a person",
    )
    topics.add_argument(
        "--decisions",
        metavar="KAFKA",
        help="lay people's decisions that come on kafka://host:port/topic over the data set, a JSON object each",
    )
    topics.add_argument(
        "--from",
        dest="beginning",
        type=shared.beginning,
        metavar="WHERE",
        help="where a new data set begins: earliest (the default), latest, or a time as 2026-01-31T12:00:00Z",
    )
    topics.add_argument(
        "--until-caught-up",
        action="store_true",
        help="end when all is done that was there at the start; without this the run goes on until it is stopped",
    )
    topics.add_argument(
        "--epoch-seconds",
        type=shared.seconds,
        default=5.0,
        metavar="S",
        help="commit what has arrived about so long after its first message",
    )
    topics.add_argument(
        "--epoch-bytes",
        type=shared.whole(1),
        default=128 * 2**20,
        metavar="N",
        help="bytes of messages that are held and committed together at most",
    )
    topics.add_argument(
        "--allow-uri",
        action="append",
        default=[],
        metavar="ROOT",
        help="a folder or bucket in which messages may name files; repeatable. Without it none is looked at",
    )
    topics.add_argument(
        "--kafka-config",
        metavar="FILE",
        help="security.protocol, sasl.username, ... one a line (default: the file that LABELSTREAM_KAFKA_CONFIG names)",
    )
    topics.add_argument(
        "--compact-every",
        type=shared.whole(0),
        default=1000,
        metavar="N",
        help="make few large files of many small ones every N epochs, as `pipelines.compact` does; 0: never",
    )
    topics.add_argument(
        "--take-over",
        action="store_true",
        help="shut out a run that hangs, or whose machine is gone, and go on in its place",
    )
    run = made.add_argument_group("the run")
    run.add_argument("--retry-failed", action="store_true", help="also do again what failed before")
    run.add_argument(
        "--new-configuration", action="store_true", help="go on with a data set that was made with other options"
    )
    run.add_argument(
        "--limit", type=shared.whole(1), metavar="N", help="do at most N items in this run; the next one goes on there"
    )
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="say what would be done, the expected time and disk, and what is missing; write nothing",
    )
    run.add_argument(
        "--recipe",
        metavar="FILE",
        help="options in TOML, as `fps = 5`; the command line wins. What a run used is kept in report/recipe.toml",
    )
    run.add_argument(
        "--metrics-port",
        type=shared.whole(0, 65_535),
        metavar="N",
        help="answer /metrics (Prometheus), /healthz and /readyz on this port; 0 takes a free one, which the log names",
    )
    run.add_argument(
        "--metrics-host",
        default="0.0.0.0",
        metavar="ADDRESS",
        help="where: 127.0.0.1 for this machine alone, :: for IPv6 too",
    )
    shared.add_shared(run, "epoch-items", "max-bytes", "max-pixels", "max-failure-rate", "log-format")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the job; return its exit code."""
    started = time.monotonic()
    arguments = parser()
    options, beam_arguments = shared.read(arguments, with_recipe(arguments, argv))
    configure(options.log_format)
    share_heaps()
    options.runner = require_runner(options.runner)
    inputs = options.input or [_samples()]
    output = place(options.output)
    require_output(output)
    of_topics = any(map(is_kafka, inputs))
    if options.dry_run and not of_topics:
        return _dry_run(options, inputs, output)
    from pipelines.metrics import Metrics, serving

    recipe = effective(arguments, options, beam_arguments)
    metrics = Metrics()
    with serving(metrics, options.metrics_host, options.metrics_port):
        if of_topics:
            from pipelines import continuous

            return continuous.main(options, beam_arguments, inputs, recipe, started, metrics)
        return _annotate(options, beam_arguments, inputs, output, recipe, started, metrics)


def _samples() -> str:
    from pipelines.samples import write_samples
    from transforms.models.weights import cache_dir

    try:
        folder = write_samples(cache_dir() / "samples")
    except OSError:
        folder = write_samples(Path(tempfile.gettempdir()) / "labelstream-samples")
    log.info("no --input named: labelling the built-in samples in %s", folder)
    return str(folder)


def _dry_run(options: argparse.Namespace, inputs: list[str], output: Place) -> int:
    """Tell what a run would do. Wrong options, missing weights and a missing device are errors here as there."""
    from pipelines import dry_run, epochs, labelling
    from pipelines.configuration import require_same
    from pipelines.planning import Planner
    from transforms.source import list_inputs

    listing = list_inputs(inputs, exclude=str(output))
    with dry_run.looked_at(output) as dataset:
        before = epochs.standing_configuration(dataset)
        if before is None:
            _require_files(listing, inputs)
        configuration, _, models = labelling.configured(options, None if options.new_configuration else before)
        if not options.new_configuration:
            require_same(before, configuration.told(), str(output))
        planner = Planner(
            dataset, listing.files, configuration.told(), epoch_items=1, retry_failed=options.retry_failed
        )
        work = dry_run.survey(planner, options.limit)
        print(*dry_run.tell(work, listing, output, configuration, models), sep="\n", flush=True)
    return 0


def _annotate(
    options: argparse.Namespace,
    beam_arguments: list[str],
    inputs: list[str],
    output: Place,
    recipe: bytes,
    started: float,
    metrics: "Metrics",
) -> int:
    from pipelines import epochs, labelling
    from pipelines.configuration import require_same
    from pipelines.dataset import Dataset, is_dataset
    from pipelines.planning import Planner, take_up
    from pipelines.progress import Progress
    from pipelines.summary import Run
    from schemas.layout import RECIPE
    from transforms import clock, stopping
    from transforms.source import list_inputs
    from transforms.storage import write_atomic

    listing = list_inputs(inputs, exclude=str(output))
    if not is_dataset(output):
        _require_files(listing, inputs)
    before = epochs.standing_configuration(Dataset(output)) if is_dataset(output) else None
    configuration, models, _ = labelling.configured(options, None if options.new_configuration else before)
    identity = epochs.Identity(version(), tuple(models["classifier"]["labels"]), models, configuration.hash)
    now = configuration.told()
    with epochs.one_writer(output) as hold:
        dataset = Dataset(output)
        dataset.verify()
        if options.new_configuration:
            epochs.abandon_other_plan(dataset, now)
        else:
            require_same(epochs.standing_configuration(dataset), now, str(output))
        epochs.collect_garbage(dataset)
        write_atomic(str(output / RECIPE), recipe)
        clock.reset()
        pass_over()
        planner = Planner(
            dataset,
            listing.files,
            now,
            epoch_items=options.epoch_items,
            retry_failed=options.retry_failed,
            limit=options.limit,
            whole=listing.whole,
        )
        run_plan = labelling.runner(options, beam_arguments, dataset, configuration, identity)
        metrics.loaded(dataset, options.epoch_items, identity.version, configuration.hash)
        run = Run(started)
        count = partial(_count, inputs, output)
        with stopping.stop_on_signals(), Progress(count, lambda: planner.more_items) as progress:
            unfinished = take_up(dataset, planner)
            for manifest in epochs.run_epochs(
                dataset, planner, run_plan, identity, progress.draw, unfinished, require_ours=hold.require
            ):
                run.add(manifest)
                metrics.committed(manifest)
                progress.committed(manifest)
            stopped = stopping.stop_requested()
        planner.save()
        missing = None if stopped else planner.missing()
        return _finish(options, dataset, run, listing.skipped, configuration, stopped, missing)


def _count(inputs: list[str], output: Place) -> int:
    """Return how many files the inputs hold; 0 where that would cost too much, or they cannot be listed twice."""
    from transforms.buckets.names import is_remote
    from transforms.source import list_inputs

    if any(is_remote(name.removeprefix("@")) for name in inputs):
        return 0  # a listing is the larger part of a night in which little is new
    try:
        return sum(1 for _ in list_inputs(inputs, exclude=str(output)).files)
    except (UsageError, RunError, OSError):
        return 0  # the run itself tells what is wrong


def _require_files(listing: "Listing", inputs: list[str]) -> None:
    first = next(listing.files, None)
    if first is None:
        skipped = f" ({listing.skipped} hidden or text files were skipped)" if listing.skipped else ""
        raise UsageError(f"No input found: {', '.join(inputs)} holds no picture{skipped}")
    listing.files = chain([first], listing.files)


def _finish(
    options: argparse.Namespace,
    dataset: "Dataset",
    run: "Run",
    skipped: int,
    configuration: "Configuration",
    stopped: bool,
    missing: "pl.DataFrame | None",
) -> int:
    """Write what is made of the tables and tell the counts; a run that was stopped leaves exports for the next one."""
    from pipelines.summary import last_lines, summarise, write_missing, write_summary

    if stopped:
        log.warning("stopped on request: what was committed stands; run the same command again to go on")
    elif not options.no_export:
        from pipelines.export import export_all

        export_all(dataset, options.coco_categories)
    told = summarise(dataset, run, skipped, configuration.hash)
    told["missing"] = None if missing is None else missing.height
    write_missing(dataset, missing)
    write_summary(dataset, told)
    if not stopped:
        from pipelines.report import write_report

        write_report(dataset, told)
    if options.preview and not stopped:
        from pipelines.preview import draw_preview

        draw_preview(dataset, options.preview)
    print(*last_lines(told, dataset.path), sep="\n", flush=True)
    return 0 if stopped else run.exit_code(options.max_failure_rate)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
