"""Clean labels: `python -m pipelines.clean --runner=DirectRunner --input labels.json --images photos/ --output out/`.

Reads label files of many tools, repairs labels and boxes, finds duplicates and faults, holds back what a person must
decide, and writes Parquet tables, COCO and JSON lines. Every change is written down and can be taken back.
"""

import argparse
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines import options as shared
from pipelines.logs import configure, log, run_command
from pipelines.memory import give_back, share_heaps
from pipelines.requirements import require_output, require_runner, version
from schemas.aliases import CODES
from schemas.errors import UsageError
from schemas.reasons import Duplicates
from transforms.places import Place, place, scratch_of

if TYPE_CHECKING:
    from pipelines.clean_configuration import CleanConfiguration
    from pipelines.cleaning import CleanPlan
    from pipelines.dataset import Dataset
    from pipelines.deciding import Ruling, Wishes
    from pipelines.roots import Root, Roots
    from pipelines.summary import Run
    from pipelines.survey import Survey
    from schemas.raw import Source
    from validation.own import Own

EPILOG = """\
examples:
  python -m pipelines.clean --runner=DirectRunner --input labels.json --images photos/ --output out/
  python -m pipelines.clean --input voc/ --input yolo/ --input legend.csv --vocabulary labels.toml --output out/
  python -m pipelines.clean --input boxes.csv --bbox-format xyxy --columns file=1,label=2 --output out/
  python -m pipelines.clean --dataset out/ --explain label.spelling
  python -m pipelines.clean --dataset out/ --undo label.spelling
  python -m pipelines.clean --dataset out/ --needs-review review.csv
  python -m pipelines.clean --dataset out/ --decisions review.csv

exit codes: 0 done; 1 every new item failed, more failed than --max-failure-rate allows, or the run could not go on;
2 misuse, or a question that only you can answer (which convention boxes have). What is committed is never harmed."""

FORMATS = ("coco", "voc", "yolo", "labelme", "cvat", "label-studio", "csv", "jsonl", "folders", "parquet")


def parser() -> shared.Parser:
    """Return the parser of all options of this job."""
    made = shared.Parser(
        prog="python -m pipelines.clean", description="\n".join(__doc__.splitlines()[2:]), epilog=EPILOG
    )
    made.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="WHERE",
        help="a label file, a folder of them, or a data set made before; repeatable",
    )
    made.add_argument(
        "--images",
        action="append",
        default=[],
        metavar="WHERE",
        help="where the pictures are: sizes, duplicates and missing pictures are told by them. Repeatable. Default: "
        "those that lie in the folders of --input",
    )
    shared.add_shared(made, "output", "runner")
    reading = made.add_argument_group("how the label files are read")
    reading.add_argument("--format", choices=FORMATS, help="what the inputs are (default: told by their content)")
    reading.add_argument(
        "--columns",
        metavar="ROLE=COLUMN,...",
        help="where a table holds what, by name or number from 1: file=1,label=emotion,x=3,y=4,w=5,h=6",
    )
    reading.add_argument("--classes", metavar="FILE", help="the class list of YOLO files that have none beside them")
    rules = made.add_argument_group("rules")
    rules.add_argument(
        "--vocabulary",
        metavar="FILE|from-source",
        help="the labels that may stand: TOML with [[labels]], name, aliases; or from-source: those that each source "
        "declares, or that at least 1%% of its rows carry. Default: the expressions",
    )
    rules.add_argument(
        "--codes",
        choices=list(CODES),
        help="what numbers stand for, where labels are numbers and nothing says so",
    )
    rules.add_argument(
        "--bbox-format",
        metavar="CONVENTION",
        help="xyxy, xywh or cxcywh, where wished with -pixels, -unit (0..1) or -percent (default: what the format "
        "declares, or what all boxes of a source prove)",
    )
    rules.add_argument(
        "--duplicates",
        choices=["keep", "exact", "near"],
        default="near",
        help="where pictures are at hand, exact: files of the same bytes; near: also pictures that show the same",
    )
    rules.add_argument("--mirrored", action="store_true", help="with near: a mirrored copy is a copy too")
    rules.add_argument(
        "--suspect",
        action="store_true",
        help="let the model look at each labelled face, and hold back for review what it finds doubtful",
    )
    rules.add_argument(
        "--suspect-classifier",
        default="expression8",
        metavar="NAME",
        help="the classifier that doubts: a name of pipelines.models list, or the path of a TOML record",
    )
    rules.add_argument("--expectations", metavar="FILE", help="your own Great Expectations suite, as JSON, beside ours")
    rules.add_argument(
        "--data-docs", action="store_true", help="build the pages of Great Expectations: report/data_docs/index.html"
    )
    shared.add_shared(rules, "no-export", "device")
    later = made.add_argument_group("a data set that was cleaned (instead of --input)")
    later.add_argument("--dataset", metavar="FOLDER", help="the data set that the following are about")
    doing = later.add_mutually_exclusive_group()
    doing.add_argument("--explain", metavar="RULE", help="say what a rule did here, with examples")
    doing.add_argument("--undo", metavar="RULE", help="take a rule's changes back; the rest stays")
    doing.add_argument(
        "--needs-review", metavar="FILE", help="write what a person must decide, as .csv or .jsonl, with candidates"
    )
    doing.add_argument("--decisions", metavar="FILE", help="read the decisions back: a person's word is final")
    later.add_argument("--reviewer", metavar="NAME", help="who decided, where the file does not say")
    run = made.add_argument_group("the run")
    run.add_argument("--retry-failed", action="store_true", help="also do again what failed before")
    run.add_argument(
        "--new-configuration", action="store_true", help="go on with a data set that was made with other options"
    )
    shared.add_shared(run, "epoch-items", "max-bytes", "max-pixels", "max-failure-rate", "log-format")
    made.set_defaults(epoch_items=100_000)
    return made


def main(argv: Sequence[str]) -> int:
    """Run the job; return its exit code."""
    started = time.monotonic()
    options, beam_arguments = shared.read(parser(), argv)
    configure(options.log_format)
    share_heaps()
    if options.dataset is not None:
        return _revisit(options, started)
    for name in ("explain", "undo", "needs_review", "decisions", "reviewer"):
        if getattr(options, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} is about a data set: name it with --dataset FOLDER")
    if not options.input:
        raise UsageError("No input: name label files or folders with --input, or a cleaned data set with --dataset")
    options.runner = require_runner(options.runner)
    output = place(options.output)
    require_output(output)
    options.output = str(output)  # as it is joined with the names in it
    return _clean(options, beam_arguments, started)


def _revisit(options: argparse.Namespace, started: float) -> int:
    """Explain, undo, write or read decisions of a data set that is there."""
    from pipelines import review
    from pipelines.dataset import Dataset
    from pipelines.export import export_all
    from pipelines.report import write_report
    from pipelines.summary import Run, summarise, write_summary
    from transforms.stopping import stop_on_signals

    if options.input or options.images:
        raise UsageError("--dataset is about what was cleaned before: leave --input and --images out")
    dataset = Dataset(options.dataset)
    changed = False
    with stop_on_signals():
        if options.explain:
            lines = review.explain(dataset, options.explain)
        elif options.needs_review:
            lines = review.write_review(dataset, options.needs_review)
        elif options.undo:
            lines, changed = review.undo(dataset, options.undo)
        elif options.decisions:
            lines, changed = review.decide(dataset, options.decisions, options.reviewer)
        else:
            raise UsageError("--dataset needs one of --explain, --undo, --needs-review, --decisions")
    if changed:
        if not options.no_export:
            export_all(dataset, "expression")
        told = summarise(dataset, Run(started), 0, dataset.info["configuration_hash"])
        write_summary(dataset, told)
        write_report(dataset, told)
    print(*lines, sep="\n", flush=True)
    return 0


def _clean(options: argparse.Namespace, beam_arguments: list[str], started: float) -> int:
    from pipelines import epochs
    from pipelines.configuration import require_same
    from pipelines.dataset import Dataset, is_dataset
    from pipelines.roots import Roots
    from pipelines.summary import Run
    from transforms import clock, stopping
    from transforms.readers.forms import sources_of
    from validation.own import read_own

    output = place(options.output)
    wishes = _wishes(options)
    own = read_own(place(options.expectations), ()) if options.expectations else None
    configuration = _configuration(options, wishes, own)
    found = sources_of(options.input, options.format, exclude=str(output))
    for name, why in found.unknown:
        log.warning("passed over: %s (%s)", name, why)
    if not options.new_configuration and is_dataset(output):
        require_same(epochs.standing_configuration(Dataset(output)), configuration.told(), str(output))
    with epochs.one_writer(output), stopping.stop_on_signals():
        dataset = Dataset(output)
        dataset.verify()
        epochs.forget_plan(dataset)  # what it covered was never visible, and is surveyed anew
        epochs.collect_garbage(dataset)
        clock.reset()
        run = Run(started)
        roots = Roots(dataset)
        announced = len(roots.known)
        with _staging(output) as folder:
            survey = _survey(options, beam_arguments, found.sources, folder, roots)
            if not stopping.stop_requested():
                job = _Job(options, beam_arguments, dataset, survey, configuration, own)
                job.run(wishes, roots.known[announced:], run)
        return _finish(options, dataset, run, len(found.unknown), configuration, own, stopping.stop_requested())


def _wishes(options: argparse.Namespace) -> "Wishes":
    from pipelines.deciding import FROM_SOURCE, Wishes
    from transforms.codes import declared_codes
    from transforms.conventions import read_convention
    from transforms.vocabularies import Vocabulary, expressions, read_vocabulary

    if options.vocabulary is None:
        vocabulary: Vocabulary | None = expressions()
    else:
        vocabulary = None if options.vocabulary == FROM_SOURCE else read_vocabulary(options.vocabulary)
    asked = read_convention(options.bbox_format) if options.bbox_format else None
    return Wishes(vocabulary, asked, declared_codes(options.codes) if options.codes else None)


def _configuration(options: argparse.Namespace, wishes: "Wishes", own: "Own | None") -> "CleanConfiguration":
    from pipelines.clean_configuration import CleanConfiguration
    from pipelines.deciding import FROM_SOURCE
    from transforms.models.record import load_record
    from validation.terms import CLEAN_VERSION

    vocabulary = FROM_SOURCE
    if wishes.vocabulary:
        told = json.dumps([wishes.vocabulary.names, sorted(wishes.vocabulary.aliases.items())]).encode()
        vocabulary = hashlib.sha256(told).hexdigest()
    return CleanConfiguration(
        vocabulary=vocabulary,
        codes=options.codes,
        bbox_format=options.bbox_format,
        duplicates=options.duplicates,
        mirrored=options.mirrored,
        max_pixels=options.max_pixels,
        max_bytes=options.max_bytes,
        expectations=CLEAN_VERSION,
        own_expectations=own.sha256 if own else None,
        suspect=load_record(options.suspect_classifier).contract_sha256 if options.suspect else None,
    )


@contextmanager
def _staging(output: Place) -> Iterator[Path]:
    """Give a folder on this machine for the survey; nothing in it outlives the run."""
    folder = scratch_of(output) / "survey"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _survey(
    options: argparse.Namespace, beam_arguments: list[str], sources: list["Source"], folder: Path, roots: "Roots"
) -> "Survey":
    """Read the label files, find their pictures and look at them."""
    from pipelines import survey as steps
    from pipelines.runners import pipeline_options, run_pipeline
    from transforms.clock import clocked
    from transforms.look import Limits
    from transforms.readers.rows import Options
    from transforms.source import is_folder, list_inputs, real_name
    from transforms.stopping import stop_requested

    near = options.images or [name for name in options.input if is_folder(name)]
    pictures = list_inputs(near, exclude=options.output) if near else None
    count = sum(1 for _ in pictures.files) if pictures else 0
    survey = steps.Survey(
        real_name(options.output), folder, steps.parts_of(sources, count), sources, frozenset(options.input)
    )
    with clocked("read"):
        steps.take_in(survey, Options(_columns(options.columns), folder, options.classes), stop_requested)
    with clocked("enrol"):
        if near:
            steps.list_pictures(survey, list_inputs(near, exclude=options.output), roots)
        steps.require_rows(survey)
        sights = list(steps.enrol(survey, roots, expected=bool(options.images), whole=bool(options.images)))
    if sights and not stop_requested():
        run_pipeline(
            partial(
                steps.build_look,
                sights=sights,
                folder=folder,
                limits=Limits(options.max_bytes, options.max_pixels),
                fingerprints=options.duplicates == Duplicates.NEAR,
            ),
            "the look at the pictures",
            options.output,
            options.runner,
            pipeline_options(options.runner, beam_arguments),
        )
    absent = roots.known[0].number if roots.known else roots.place(_folder_of(options.input[0]), "")[0].number
    if not stop_requested():
        with clocked("enrol"):
            steps.settle_all(survey, absent)
    return survey


def _folder_of(name: str) -> str:
    from transforms.source import is_folder

    return name if is_folder(name) else str(place(name).parent)


def _columns(text: str | None) -> dict[str, str]:
    """Read `--columns file=1,label=emotion`."""
    pairs = [pair.split("=", 1) for pair in (text or "").split(",") if pair]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise UsageError(f"--columns: expected ROLE=COLUMN,ROLE=COLUMN as file=1,label=emotion, got {text!r}")
    return {role.strip(): column.strip() for role, column in pairs}


@dataclass
class _Job:
    """The second half of a run: decide, plan, clean, commit."""

    options: argparse.Namespace
    beam_arguments: list[str]
    dataset: "Dataset"
    survey: "Survey"
    configuration: "CleanConfiguration"
    own: "Own | None"

    def run(self, wishes: "Wishes", fresh: Sequence["Root"], run: "Run") -> None:
        """Commit what the survey found, `fresh` being the roots that the data set does not know yet."""
        from pipelines import epochs
        from pipelines.cleaning import CleanPlanner, learn_committed, prepare
        from pipelines.deciding import rule_on
        from pipelines.progress import Progress
        from pipelines.twins import find_twins
        from transforms.clock import clocked

        dataset, survey = self.dataset, self.survey
        give_back()
        with clocked("decide"):
            learn_committed(dataset, survey)
            ruling = rule_on(survey, wishes)
        for line in ruling.lines(survey.sources):
            log.info("%s", line)
        if self.options.suspect:
            self._doubt(ruling)
        with clocked("duplicates"):
            mode, mirrored = self.configuration.duplicates, self.configuration.mirrored
            standing = find_twins(dataset, survey, mode, mirrored=mirrored)
        planner = CleanPlanner(
            dataset,
            survey,
            (
                prepare(dataset, survey, part, standing(part), retry_failed=self.options.retry_failed)
                for part in range(survey.parts)
            ),
            self.configuration.told(),
            epoch_items=self.options.epoch_items,
            roots=fresh,
            sources=ruling.told(survey),
            categories=ruling.categories,
        )
        identity = epochs.Identity(version(), (), {}, self.configuration.hash)
        with Progress(lambda: survey.items, lambda: 0) as progress:
            clean = partial(self._epoch, ruling=ruling)
            for manifest in epochs.run_epochs(dataset, planner, clean, identity, progress.draw):
                run.add(manifest)
                progress.committed(manifest)
                give_back()

    def _doubt(self, ruling: "Ruling") -> None:
        from pipelines.runners import pipeline_options, run_pipeline
        from pipelines.suspects import Judge, build_opinions, claims, mark_suspects
        from transforms.look import Limits
        from transforms.models.registry import default_detector

        options = self.options
        judge = Judge(options.device, default_detector(), options.suspect_classifier)
        labels = judge.load_classifier().labels
        asked = list(claims(self.survey, ruling, labels))
        if not asked:
            log.warning("--suspect: no picture at hand has a label that %s knows", options.suspect_classifier)
            return
        run_pipeline(
            partial(
                build_opinions,
                asked=asked,
                folder=self.survey.folder,
                judge=judge,
                limits=Limits(options.max_bytes, options.max_pixels),
            ),
            "the second opinion",
            options.output,
            options.runner,
            pipeline_options(options.runner, self.beam_arguments),
        )
        log.info("second opinion: %d labels are doubtful", mark_suspects(self.survey, ruling, labels))

    def _epoch(self, plan: "CleanPlan", ruling: "Ruling") -> None:
        import pandas  # noqa: F401  Beam and Great Expectations would import it at once, and one see half of it

        from pipelines.clean_flow import Settings, build
        from pipelines.runners import pipeline_options, run_pipeline
        from validation.terms import cleaned

        settings = Settings(
            root=self.options.output,
            survey=self.survey,
            decided=ruling.decided,
            terms=cleaned(
                ruling.categories,
                duplicates=Duplicates(self.configuration.duplicates),
                exclusive=ruling.exclusive(self.survey.sources),
            ),
            own=self.own,
            metadata={
                "version": version(),
                "configuration_hash": self.configuration.hash,
                "labels": list(ruling.categories),
                "coordinates": "absolute pixels after EXIF orientation, origin top-left; cx, cy, w, h in 0..1",
            },
        )
        run_pipeline(
            partial(build, plan=plan, settings=settings),
            f"epoch {plan.epoch}",
            self.options.output,
            self.options.runner,
            pipeline_options(self.options.runner, self.beam_arguments),
        )


def _finish(
    options: argparse.Namespace,
    dataset: "Dataset",
    run: "Run",
    skipped: int,
    configuration: "CleanConfiguration",
    own: "Own | None",
    stopped: bool,
) -> int:
    """Write what is made of the tables and tell the counts; a run that was stopped leaves exports for the next one."""
    from pipelines.export import export_all
    from pipelines.report import write_report
    from pipelines.summary import last_lines, summarise, write_summary
    from pipelines.verdict import judge_whole, write_docs
    from transforms.clock import clocked
    from validation.terms import cleaned

    if stopped:
        log.warning("stopped on request: what was committed stands; run the same command again to go on")
    if not stopped and not options.no_export:
        with clocked("export"):
            export_all(dataset, "expression")
    told = summarise(dataset, run, skipped, configuration.hash)
    write_summary(dataset, told)
    if not stopped and dataset.manifests:
        names = tuple(dataset.manifests[-1].told["categories"])
        for line in judge_whole(dataset, names):
            log.warning("%s", line)
        if options.data_docs:
            terms = cleaned(names, duplicates=Duplicates(options.duplicates))
            log.info("Data Docs: %s", write_docs(dataset, terms, own))
    if not stopped:
        write_report(dataset, told)
    print(*last_lines(told, dataset.path), sep="\n", flush=True)
    return 0 if stopped else run.exit_code(options.max_failure_rate)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
