"""Annotate what topics bring, for as long as the run lasts: read `_feed` for the loop."""

import argparse
import fnmatch
import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from pipelines import decided, epochs, labelling, review_queue
from pipelines.compact import compact
from pipelines.configuration import require_same
from pipelines.dataset import Dataset, Manifest, is_dataset
from pipelines.decided import Decisions
from pipelines.letters import dead_letters, failed, results
from pipelines.logs import log
from pipelines.metrics import Metrics
from pipelines.outbox import OUTPUT_PARTITIONS, Letter, Outbox
from pipelines.planning import Plan
from pipelines.requirements import version
from pipelines.runners import EpochBroke
from pipelines.stream_plan import StreamPlan
from pipelines.streaming import Beginning, Limits, StreamPlanner, stream_id
from pipelines.summary import Run, last_lines, summarise, write_summary
from schemas.errors import RunError, UsageError
from schemas.layout import RECIPE, STREAM
from schemas.messages import DEAD_MESSAGE
from schemas.reasons import Duplicates
from transforms import clock
from transforms.kafka import clients
from transforms.kafka.access import Access, read_access
from transforms.kafka.address import Address, is_glob, is_kafka
from transforms.kafka.clients import require_broker
from transforms.messages import AllowedRoots
from transforms.places import place
from transforms.stopping import stop_on_signals, stop_requested
from transforms.storage import holding, write_atomic

_LINE_SECONDS = 10.0


def main(
    options: argparse.Namespace,
    beam_arguments: list[str],
    inputs: Sequence[str],
    recipe: bytes,
    started: float,
    metrics: Metrics,
) -> int:
    """Run the job until it has caught up, if so asked, or is stopped; return its exit code."""
    _require_sense(options, beam_arguments, inputs)
    sources = [Address.parse(uri, "--input") for uri in inputs]
    targets = _targets(options, sources)
    access = read_access(options.kafka_config)
    allowed = AllowedRoots.of(options.allow_uri)
    require_broker(sources[0].servers, access)
    _require_topics(sources, access)
    metrics.broker(answers=True)
    output = place(options.output)
    before = epochs.standing_configuration(Dataset(output)) if is_dataset(output) else None
    configuration, models, _ = labelling.configured(options, None if options.new_configuration else before)
    identity = epochs.Identity(version(), tuple(models["classifier"]["labels"]), models, configuration.hash)
    with epochs.one_writer(output, take_over=options.take_over) as hold, stop_on_signals():
        dataset = Dataset(output)
        dataset.verify()
        if options.new_configuration:
            epochs.abandon_other_plan(dataset, configuration.told())
        else:
            require_same(epochs.standing_configuration(dataset), configuration.told(), str(output))
        epochs.collect_garbage(dataset)
        write_atomic(str(output / RECIPE), recipe)
        clock.reset()
        metrics.loaded(dataset, options.epoch_items, identity.version, configuration.hash)
        planner = StreamPlanner(
            dataset,
            configuration.told(),
            sources=sources,
            access=access,
            allowed=allowed,
            limits=Limits(options.epoch_items, options.epoch_bytes, options.epoch_seconds),
            beginning=None if options.beginning is None else Beginning(options.beginning),
            publishes=targets,
            until_caught_up=options.until_caught_up,
            observer=metrics,
            require_ours=hold.require,
        )
        outbox = _outbox(dataset, planner, access, targets, hold, metrics)
        decisions = _decisions(options, dataset, planner, access, targets, hold)
        run_plan = labelling.runner(options, beam_arguments, dataset, configuration, identity)
        run = Run(started)
        progress = _Progress()
        try:
            for manifest in _feed(dataset, planner, outbox, decisions, run_plan, identity, hold, metrics):
                run.add(manifest)
                progress.committed(manifest)
                if options.compact_every and manifest.epoch % options.compact_every == 0:
                    compact(dataset)
        finally:
            planner.close()
            if decisions is not None:
                decisions.close()
            if outbox is not None:
                outbox.close()
        metrics.finishing()
        return _finish(options, dataset, run, configuration.hash)


def _feed(
    dataset: Dataset,
    planner: StreamPlanner,
    outbox: Outbox | None,
    decisions: Decisions | None,
    run_plan: Callable[[Plan], None],
    identity: epochs.Identity,
    hold: epochs.Hold,
    metrics: Metrics,
) -> Iterator[Manifest]:
    """Yield every commit, after what it tells Kafka is there. An epoch that breaks is tried again, then in parts."""

    def run(plan: StreamPlan) -> None:
        with holding(plan.held):
            run_plan(plan)

    def publish(manifest: Manifest) -> None:
        if outbox is not None:
            outbox.publish(manifest.epoch, partial(_letters, dataset, planner, outbox, manifest))
            metrics.published(outbox.last)

    def decide(decisions: Decisions) -> None:
        planner.recent |= {record.name: record for record in decisions.records}
        manifest = decisions.take()
        if manifest is not None:
            publish(manifest)

    unfinished = planner.take_up()
    while True:
        try:
            for manifest in epochs.run_epochs(
                dataset, planner, run, identity, metrics.working, unfinished, hold.require
            ):
                metrics.committed(manifest)
                publish(manifest)
                yield manifest
                if decisions is not None and not stop_requested() and decisions.due():
                    decide(decisions)
            if decisions is None or stop_requested() or not decisions.left():
                return
            decide(decisions)
            unfinished = None
        except EpochBroke as error:
            log.error("%s", error)
            unfinished = planner.broke(_next_epoch(dataset), str(error))


def _next_epoch(dataset: Dataset) -> int:
    return dataset.manifests[-1].epoch + 1 if dataset.manifests else 1


def _letters(dataset: Dataset, planner: StreamPlanner, outbox: Outbox, manifest: Manifest) -> Iterator[Letter]:
    """Yield what a commit tells Kafka; what is too large for its topic is told in short."""
    publishes = _publishes(manifest)
    if STREAM not in manifest.told:
        for letter in decided.letters(dataset, manifest, planner.message):
            is_review = letter.topic == publishes.get("review")
            yield letter if outbox.fits(letter) else review_queue.short(letter) if is_review else _short_letter(letter)
        return
    if "results" in publishes:
        for letter in results(dataset, manifest, publishes["results"]):
            yield letter if outbox.fits(letter) else _short_result(letter)
    if "dead_letter" in publishes:
        failures = failed(dataset, manifest)
        for letter in dead_letters(failures, publishes["dead_letter"], planner.message):
            yield letter if outbox.fits(letter) else _short_letter(letter)
    if "review" in publishes:
        for letter in review_queue.of_epoch(dataset, manifest, publishes):
            yield letter if outbox.fits(letter) else review_queue.short(letter)


def _publishes(manifest: Manifest) -> dict[str, str]:
    """Return to which topics a commit is told."""
    return dict(manifest.told.get(STREAM, manifest.told.get(decided.KIND, {})).get("publishes", {}))


def _short_result(letter: Letter) -> Letter:
    told = json.loads(letter.value or b"{}")
    why = {"error": "too_large", "message": f"{len(told['labels'])} labels: see the data set", "labels": []}
    return Letter(letter.topic, letter.key, json.dumps(told | why).encode(), letter.headers)


def _short_letter(letter: Letter) -> Letter:
    told = [each for each in letter.headers if len(each[1]) < 1000]
    note = (DEAD_MESSAGE, b"the value is too large for this topic: see the source")
    return Letter(letter.topic, letter.key or b"too large", None, (*told, note))


def _outbox(
    dataset: Dataset,
    planner: StreamPlanner,
    access: Access,
    targets: dict[str, str],
    hold: epochs.Hold,
    metrics: Metrics,
) -> Outbox | None:
    """Return the door to Kafka, after what a killed run still owed has gone through it; null where nobody asked."""
    told = [manifest for manifest in dataset.manifests if _publishes(manifest)]
    topics = set(review_queue.topics_of(targets).values())
    for manifest in told[-1:]:
        topics |= set(review_queue.topics_of(_publishes(manifest)).values())
    if not topics or stop_requested():
        return None
    outbox = Outbox(planner.servers, access, stream_id(dataset), sorted(topics), hold.require, metrics.broker)
    if stop_requested():
        return outbox  # perhaps it has not yet learnt what is in Kafka
    owed = [manifest for manifest in told if manifest.epoch > outbox.last]
    if outbox.last > (dataset.manifests[-1].epoch if dataset.manifests else 0):
        raise RunError(
            f"Kafka has the results of epoch {outbox.last}, which {dataset.path} has not: it was restored from an "
            "older copy. Restore a newer one, or begin another data set"
        )
    if len(owed) > 1:
        raise RunError(
            f"Kafka has no results behind epoch {outbox.last}, but {dataset.path} sent those of {len(owed)} epochs "
            "since: the ledger topic was deleted. Nothing is sent twice: begin another data set"
        )
    for manifest in owed:
        log.info("sending the results of epoch %d, which a killed run had committed", manifest.epoch)
        outbox.publish(manifest.epoch, partial(_letters, dataset, planner, outbox, manifest))
    metrics.published(dataset.manifests[-1].epoch if dataset.manifests else 0)
    return outbox


def _decisions(
    options: argparse.Namespace,
    dataset: Dataset,
    planner: StreamPlanner,
    access: Access,
    targets: dict[str, str],
    hold: epochs.Hold,
) -> Decisions | None:
    """Return what reads people's decisions; null where nobody asked."""
    if options.decisions is None:
        return None
    topic = Address.parse(options.decisions, "--decisions").one_topic
    if clients.make_topic(planner.admin, topic, OUTPUT_PARTITIONS, {}):
        log.info("made the topic %s", topic)
    decisions = Decisions(
        dataset,
        topic,
        servers=planner.servers,
        access=access,
        admin=planner.admin,
        publishes=targets,
        until_caught_up=options.until_caught_up,
        require_ours=hold.require,
    )
    planner.interrupted = decisions.due
    return decisions


class _Progress:
    """A line now and then, and none while nothing comes."""

    def __init__(self) -> None:
        self.items, self.since, self.told_at = 0, time.monotonic(), 0.0

    def committed(self, manifest: Manifest) -> None:
        """Tell what is safe."""
        self.items += manifest.told["items"]
        now = time.monotonic()
        if now - self.told_at >= _LINE_SECONDS:
            rate = self.items / (now - self.since)
            log.info("epoch %d committed: %d items done, %.1f items/s", manifest.epoch, self.items, rate)
            self.items, self.since, self.told_at = 0, now, now


def _finish(options: argparse.Namespace, dataset: Dataset, run: Run, configuration_hash: str) -> int:
    """Tell the counts; a run that has caught up also leaves exports and the report."""
    stopped = stop_requested()
    if stopped:
        log.warning("stopped on request: what was committed stands; run the same command again to go on")
        print(f"this run: {run.items} items", flush=True)
        return 0
    if not options.no_export:
        from pipelines.export import export_all

        export_all(dataset, options.coco_categories)
    from pipelines.report import write_report

    told = summarise(dataset, run, 0, configuration_hash)
    write_summary(dataset, told)
    write_report(dataset, told)
    print(*last_lines(told, dataset.path), sep="\n", flush=True)
    return run.exit_code(options.max_failure_rate)


def _targets(options: argparse.Namespace, sources: Sequence[Address]) -> dict[str, str]:
    """Return the topics to which epochs are told, by purpose; all on the cluster of the input."""
    named = {"results": options.results, "dead_letter": options.dead_letter, "review_queue": options.review_queue}
    targets = {}
    for purpose, uri in named.items():
        if uri is None:
            continue
        option = "--" + purpose.replace("_", "-")
        address = Address.parse(uri, option)
        if address.servers != sources[0].servers:
            raise UsageError(
                f"{option} {uri}: expected a topic on {sources[0].servers}, because a transaction is of one cluster"
            )
        targets[purpose.removesuffix("_queue")] = address.one_topic
    read = {topic for source in sources for topic in source.topics}
    if options.decisions is not None:
        address = Address.parse(options.decisions, "--decisions")
        if address.servers != sources[0].servers:
            raise UsageError(f"--decisions {options.decisions}: expected a topic on {sources[0].servers}")
        if address.one_topic in read:
            raise UsageError(f"the topic {address.one_topic} cannot be both --input and --decisions: name another")
        read.add(address.one_topic)
    if again := read & set(targets.values()):
        raise UsageError(f"the topic {', '.join(sorted(again))} is both read and written: name another")
    if options.review_below is not None:
        if "review" not in targets:
            raise UsageError("--review-below needs --review-queue, the topic to which it is told")
        targets["review_below"] = str(options.review_below)
    return targets


def _require_topics(sources: Sequence[Address], access: Access) -> None:
    """Raise UsageError for a topic that is not there, before anything is written; a pattern may match none yet."""
    topics = [topic for source in sources for topic in source.topics]
    admin = clients.admin(sources[0].servers, access)
    try:
        there = clients.require_topics(admin, [topic for topic in topics if not is_glob(topic)])
        if not there and not any(fnmatch.filter(admin.list_topics(), topic) for topic in topics):
            log.warning("no topic is there yet that matches %s", ", ".join(topics))
    finally:
        admin.close()


def _require_sense(options: argparse.Namespace, beam_arguments: Sequence[str], inputs: Sequence[str]) -> None:
    files = [uri for uri in inputs if not is_kafka(uri)]
    if files:
        raise UsageError(f"--input {files[0]}: topics and files cannot be the inputs of one run; label them in two")
    if len({Address.parse(uri, "--input").servers for uri in inputs}) > 1:
        raise UsageError("--input: expected topics of one cluster, got several; run one job for each")
    if options.runner != "DirectRunner" or any("multi_processing" in word for word in beam_arguments):
        raise UsageError("--input kafka://... runs with --runner=DirectRunner and threads: messages stay in its memory")
    if options.duplicates == Duplicates.NEAR:
        raise UsageError("--duplicates near: frames of a stream are never dropped as duplicates; leave it away")
    for name in ("retry_failed", "limit", "dry_run", "preview"):
        if getattr(options, name):
            option = "--" + name.replace("_", "-")
            hint = ": `pipelines.produce --replay` brings dead letters back" if name == "retry_failed" else ""
            raise UsageError(f"{option} is for files, not for topics{hint}")
