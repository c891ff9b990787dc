"""How far a data set is: `python -m pipelines.status --dataset out/`, for topics and for folders.

It only reads: no lock, nothing written, whether a run works on it or not. `--item NAME` tells the story of one item.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.dataset import Dataset
from pipelines.logs import run_command
from pipelines.options import DEFAULT_OUTPUT, Parser, seconds
from pipelines.state import last_inputs, look, steadily
from pipelines.story import story
from schemas.errors import UsageError
from schemas.layout import RECIPE, STREAM_START
from transforms.kafka.address import Address, is_kafka
from transforms.places import Place, place

_MOST_SHOWN = 20

EPILOG = """\
examples:
  python -m pipelines.status --dataset out/
  python -m pipelines.status --dataset out/ --watch 5
  python -m pipelines.status --dataset out/ --json | jq .pending
  python -m pipelines.status --dataset out/ --item frames/0/1234
  python -m pipelines.status --dataset out/ --item holiday/017.jpg

exit codes: 0 told, also where Kafka is away; 1 the data set cannot be read; 2 misuse, or no such item.
The names of the JSON are explained in schemas/README.md."""


# ------------------------------------------------------------------------------------------------------- for a person


def lines(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield a status as text."""
    outcomes, pending, rate, stream = told["outcomes"], told["pending"], told["rate"], told["stream"]
    head = f"{told['items']:,} items in epochs up to {told['epoch']}" if told["epoch"] else "nothing is committed yet"
    yield f"{told['dataset']}: {head}"
    yield _line("run", _run_text(told["run"]))
    yield _line(
        "done", ", ".join(f"{outcomes[each]:,} {each.replace('_', ' ')}" for each in outcomes if each != "failed")
    )
    yield _line("failed", _with_kinds(outcomes["failed"], told["failures"]))
    yield _line("held back", _with_kinds(told["quarantine"]["rows"], told["quarantine"]["rules"], "rows"))
    yield _line("in progress", _plan_text(told["in_progress"], told["run"]["alive"]))
    yield _line("pending", _pending_text(pending, stream))
    if told["committed_at"]:
        yield _line("last commit", f"{told['committed_at']}, {duration(told['age_seconds'])} ago")
    if rate["items_per_second"] is not None:
        over = "the last commit" if rate["commits"] == 1 else f"the last {rate['commits']} commits"
        hour = f"{rate['last_hour_items']:,} items in the last hour"
        yield _line("rate", f"{rate['items_per_second']:,.1f} items/s over {over}; {hour}")
    if pending["seconds_left"]:
        yield _line("time left", f"about {duration(pending['seconds_left'])}")
    if stream is not None:
        yield _line(
            "lost", f"{stream['lost']:,} offsets, deleted before they were read" if stream["lost"] else "nothing"
        )
    if told["results"] is not None:
        yield _line("results", _results_text(told["results"], told["epoch"]))
    if stream is not None and stream["partitions"]:
        yield from _partition_lines(stream["partitions"])
    yield from (_line("note", note) for note in told["notes"])


def _line(what: str, text: str) -> str:
    return f"  {what:12} {text}"


def _run_text(run: Mapping[str, Any]) -> str:
    if run["alive"]:
        since = f" since {run['since']}" if run["since"] else ""  # in a bucket nothing tells it
        return f"process {run['process']} on {run['host']} works on it{since}"
    return "none works on it" if run["alive"] is False else f"perhaps process {run['process']} on {run['host']}"


def _with_kinds(count: int, kinds: Mapping[str, int], unit: str = "") -> str:
    if not count:
        return "nothing"
    most = sorted(kinds.items(), key=lambda pair: -pair[1])[:_MOST_SHOWN]
    return f"{count:,} {unit}".strip() + (f" ({', '.join(f'{kind} {n:,}' for kind, n in most)})" if most else "")


def _plan_text(plan: Mapping[str, Any] | None, alive: bool | None) -> str:
    if plan is None:
        return "nothing"
    what = f"{plan['offsets']:,} offsets" if plan["offsets"] is not None else f"{plan['items'] or 0:,} items"
    tries = f", attempt {plan['attempt']}" if (plan["attempt"] or 1) > 1 else ""
    left = "; left by a run that ended, the next one begins with it" if alive is False else ""
    return f"epoch {plan['epoch']}: {what}, since {duration(plan['age_seconds'])}{tries}{left}"


def _pending_text(pending: Mapping[str, Any], stream: Mapping[str, Any] | None) -> str:
    known = []
    if pending["offsets"] is not None:
        known.append(f"{pending['offsets']:,} offsets")
    if pending["files"] is not None:
        known.append(f"{pending['files']:,} files, {pending['bytes'] / 1e6:,.1f} MB")
    if stream is not None and not stream["answers"]:
        known.append(f"unknown of the topics, Kafka cannot be asked: {stream['why']}")
    elif pending["why_unknown"]:
        known.append(f"unknown: {pending['why_unknown']}")
    return "; ".join(known) or "nothing"


def _results_text(results: Mapping[str, Any], last: int | None) -> str:
    where = ", ".join(f"{purpose.replace('_', ' ')} in {topic}" for purpose, topic in results["topics"].items())
    if results["epoch"] is None:
        return f"{where}: up to which epoch only Kafka knows"
    owed = f"; {results['epochs_owed']} epochs are owed" if results["epochs_owed"] else ", all"
    return f"{where}: up to epoch {results['epoch']} of {last}{owed}" if last else f"{where}: nothing to tell yet"


def _partition_lines(partitions: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    shown = sorted(partitions, key=lambda one: -(one["lag"] or 0))[:_MOST_SHOWN]
    rows = [("topic", "partition", "committed", "planned", "end", "lag", "lost")]
    for one in sorted(shown, key=lambda one: (one["topic"], one["partition"])):
        numbers = (one["partition"], one["next"], one["planned"], one["end"], one["lag"], one["lost"] + one["losing"])
        rows.append((one["topic"], *("?" if number is None else f"{number:,}" for number in numbers)))
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        cells = (text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))
        yield f"  {row[0].ljust(widths[0])}  " + "  ".join(cells)
    if len(partitions) > len(shown):
        yield f"  ... and {len(partitions) - len(shown)} partitions with less lag"


def story_lines(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield an item's story as text."""
    rows = told["rows"]
    yield f"{told['item']}: {told['state']}{_why(told)}"
    videos = len({row["file_name"] for row in rows if row.get("video_id")}) if len(rows) > _MOST_SHOWN else 0
    if videos:
        kinds: dict[str, int] = {}
        for row in rows:
            kinds[row["outcome"]] = kinds.get(row["outcome"], 0) + 1
        yield f"  {len(rows) + told['rows_left_off']:,} rows: " + ", ".join(f"{n:,} {k}" for k, n in kinds.items())
    for row in rows[:_MOST_SHOWN]:
        yield from _row_lines(row)
    if len(rows) > _MOST_SHOWN:
        yield f"  ... and {len(rows) - _MOST_SHOWN + told['rows_left_off']:,} more rows: --json tells them"


def _why(told: Mapping[str, Any]) -> str:
    if "why" in told:
        return f": {told['why']}"
    if "epoch" in told:
        return f" in epoch {told['epoch']}, planned {told['since']}"
    if "offsets_before" in told:
        return f": {told['offsets_before']:,} offsets stand before it"
    return f": {told['uri']}, {told['size_bytes']:,} bytes" if "uri" in told else ""


def _row_lines(row: Mapping[str, Any]) -> Iterator[str]:
    first, last = row["epochs"]
    epoch = f"epoch {first}" if first == last else f"one of the epochs {first} to {last}"
    planned = f"planned {row['planned_at']}, " if row["planned_at"] else ""
    state = "" if row["stands"] else "  (superseded by a later epoch)"
    yield f"  {epoch}: {row['outcome'].replace('_', ' ')}; {planned}committed {row['committed_at']}{state}"
    place = f", frame {row['frame_index']}" if row.get("frame_index") is not None else ""
    size = f", {row['width']} x {row['height']}" if row.get("width") else ""
    yield f"    {row['file_name']}{place}{size}; item {row['item_key']}"
    if row.get("image_id"):
        yield f"    image {row['image_id']}"
    if row.get("duplicate_of"):
        yield f"    duplicate of {row['duplicate_of']}"
    if "error" in row:
        yield f"    {row['step']}: {row['error']} (attempt {row['attempts']}): {row['message']}"
    for label in row["labels"]:
        box = "the whole picture" if label["box"] is None else " x ".join(f"{value:.0f}" for value in label["box"][2:])
        where = "" if label["box"] is None else f" at {label['box'][0]:.0f}, {label['box'][1]:.0f}"
        sure = "" if label["confidence"] is None else f" {label['confidence']:.3f}"
        yield f"    label {label['label']}{sure} ({label['origin']}), {box}{where}"
    for change in row["changes"]:
        yield f"    {change['rule']}: {change['field']} {change['before']!r} -> {change['after']!r}"
    for held in row["held"]:
        yield f"    held back by {held['rule']}: {held['field']} {held['value']!r} {held['detail'] or ''}".rstrip()
    if row["duplicates"]:
        more = f" and {len(row['duplicates']) - 5} more" if len(row["duplicates"]) > 5 else ""
        yield f"    copies: {', '.join(row['duplicates'][:5])}{more}"
    if row["result_in_kafka"] is not None and row["stands"]:
        yield "    its result is in Kafka" if row["result_in_kafka"] else "    its result is not in Kafka yet"


def duration(span: float) -> str:
    """Return a time span for a person.

    >>> duration(4000)
    '1 h 06 min'
    """
    if span < 90:
        return f"{span:.0f} s"
    minutes = round(span / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes < 48 * 60 else f"{minutes // 1440} days"


# ------------------------------------------------------------------------------------------------------------ the job


def main(argv: Sequence[str]) -> int:
    """Run the job; return the exit code."""
    options = _parser().parse_args(argv)
    named, path = list(options.input), place(options.dataset)
    if any(map(is_kafka, named)) and not all(map(is_kafka, named)):
        raise UsageError("--input: topics and files cannot be the inputs of one run; ask for them one by one")
    if len({Address.parse(uri, "--input").servers for uri in named if is_kafka(uri)}) > 1:
        raise UsageError("--input: expected topics of one cluster, got several")
    while True:
        access = _access(options.kafka_config, named, path)
        print(_text(options, path, named, access), flush=True)
        if options.watch is None:
            return 0
        try:
            time.sleep(options.watch)
        except KeyboardInterrupt:
            return 0


def _text(options: argparse.Namespace, path: Place, named: Sequence[str], access: Any) -> str:
    def told() -> dict[str, Any]:
        status = look(path, named, access)
        return status.told() if options.item is None else story(status, options.item)

    found = steadily(told)
    if options.json:
        return json.dumps(found, ensure_ascii=False, allow_nan=False, indent=None if options.watch else 2)
    text = "\n".join(lines(found) if options.item is None else story_lines(found))
    if options.watch is None:
        return text
    return f"\x1b[H\x1b[2J{text}" if sys.stdout.isatty() else f"{text}\n"


def _access(config: str | None, named: Sequence[str], path: Place) -> Any:
    """Return what opens Kafka; the client library is loaded only for a data set of topics."""
    inputs = named
    if not inputs and not (path / STREAM_START).exists():
        inputs = last_inputs(Dataset(path)) if (path / RECIPE).exists() else ()
        if not any(map(is_kafka, inputs)) and config is None:
            return None
    from transforms.kafka.access import read_access

    return read_access(config)


def _parser() -> Parser:
    parser = Parser(prog="python -m pipelines.status", description=__doc__, epilog=EPILOG)
    parser.add_argument("--dataset", default=DEFAULT_OUTPUT, metavar="DIR", help="data set that annotate or clean made")
    parser.add_argument(
        "--item",
        metavar="NAME",
        help=(
            "tell the story of one item: its file name, uri, topic/partition/offset, image_id, or at least the first 8 "
            "digits of its item_key"
        ),
    )
    parser.add_argument("--json", action="store_true", help="one JSON object; with --watch one a line")
    parser.add_argument("--watch", type=seconds, metavar="SECONDS", help="tell it again and again, until Ctrl-C")
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="WHERE",
        help="what a run would read, in place of the last run's inputs: as for annotate; repeatable",
    )
    parser.add_argument(
        "--kafka-config",
        metavar="FILE",
        help="security.protocol, sasl.username, ... one a line (default: the file that LABELSTREAM_KAFKA_CONFIG names)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
