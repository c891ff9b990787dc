"""The sections of the page in their order, and those on items, rules, speed and configuration."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from pipelines.report import charts, cleaning, faces, timelines
from pipelines.report.page import EXPRESSIONS_NOTE, Block, Cell, Examples, Figure, Headline, Name, Section, Share, Table
from pipelines.report.told import Told
from pipelines.report.words import counted, decimal, listed, percent, printed, ratio, with_share
from schemas import reasons
from schemas.reasons import Outcome

_OUTCOMES = {
    Outcome.LABELLED: "at least one face with a label",
    Outcome.NO_FACE: "decoded, no face found",
    Outcome.DUPLICATE: "the same bytes as another picture",
    Outcome.QUARANTINED: "held back by a rule",
    Outcome.FAILED: "could not be done",
}
_CLEANED_OUTCOMES = _OUTCOMES | {
    Outcome.LABELLED: "at least one label",
    Outcome.NO_FACE: "no label stands",
    Outcome.DUPLICATE: "a copy of another picture",
    Outcome.QUARANTINED: "the picture, or every one of its labels, held back by a rule",
}


def made(told: Told) -> str:
    """Tell what made the data set, and when its last part was committed."""
    if not told.last:
        return "Nothing is committed yet."
    names = [printed(str(model["name"])) for model in told.last["models"].values() if "name" in model]
    models = f" with {listed(names)}" if names else ""
    when = told.last["committed_at"].replace("T", " ").replace("Z", " UTC")
    return f"labelstream {told.last['version']}{models}; last commit {when}"


def headlines(told: Told) -> list[Headline]:
    """Return the four numbers that matter."""
    lost = told.outcome(Outcome.FAILED, Outcome.QUARANTINED)
    share = ratio(told.outcome(Outcome.LABELLED), told.looked_at)
    run, found = told.summary["this_run"], told.numbers.labels
    most = f"most often {printed(found[0].name, 24)}" if found else f"no {told.thing} was found"
    rows = [
        Headline(f"{told.summary['items']:,}", "Items", f"{run['items']:,} of them in this run"),
        Headline(f"{told.summary['annotations']:,}", "Labelled faces" if told.tallies is None else "Labels", most),
        Headline(
            percent(share) if told.looked_at else "–",
            f"Pictures with a {told.thing}",
            f"of {told.looked_at:,} that were looked at",
        ),
        Headline(
            f"{lost:,}",
            "Lost",
            f"{told.outcome(Outcome.FAILED):,} failed, {told.outcome(Outcome.QUARANTINED):,} quarantined",
            bad=lost > 0,
        ),
    ]
    if told.tallies is not None:
        waiting = told.tallies.waiting
        wait = f"{waiting:,} of them {'waits' if waiting == 1 else 'wait'} for a person"
        rows.insert(3, Headline(f"{told.tallies.held_labels:,}", "Labels held back", wait, bad=waiting > 0))
    return rows


def note(told: Told) -> str:
    """Return what stands at the end of the page."""
    if told.tallies is None:
        return EXPRESSIONS_NOTE
    return (
        "Every change is a row of the table changes, and every row that was held back one of quarantine, with the rule "
        "that did it: nothing was thrown away, and each rule's work can be taken back."
    )


def sections(told: Told, evaluation: Section | None) -> list[Section]:
    """Return the sections that have something to say, in the page's order."""
    every = [
        coverage(told),
        cleaning.sources(told),
        cleaning.changed(told),
        cleaning.held(told),
        cleaning.duplicates(told),
        cleaning.people(told),
        cleaning.expectations(told),
        faces.faces(told),
        faces.labels(told),
        faces.quality(told),
        faces.pose(told),
        timelines.videos(told),
        evaluation,
        faces.to_look_at(told),
        rules(told),
        speed(told),
        configuration(told),
    ]
    return [section for section in every if section is not None]


def coverage(told: Told) -> Section:
    """Tell what became of every item, and what was lost why."""
    items, summary = told.summary["items"], told.summary
    counts = [(outcome, told.outcome(outcome)) for outcome in Outcome]
    meant = _OUTCOMES if told.tallies is None else _CLEANED_OUTCOMES
    figure = Figure(
        "Where the items ended",
        f"Each of the {counted(items, 'item')} is in exactly one place.",
        charts.rows(
            "Items by outcome", [charts.Row(_words(told, each), n, with_share(n, items)) for each, n in counts]
        ),
        Table(
            "Items by outcome",
            ("Outcome", "Items", "Share", "Meaning"),
            [(_words(told, each), n, Share(ratio(n, items)), meant[each]) for each, n in counts],
        ),
    )
    blocks: list[Block] = [figure]
    examples = {failed.error: failed.examples for failed in told.numbers.failed}
    if examples:
        blocks.append(
            Table(
                "Failures by error",
                ("Error", "Items", "For example"),
                [
                    (Name(error), summary["errors"][error], Examples(examples[error]))
                    for error in sorted(examples, key=lambda error: (-summary["errors"][error], error))
                ],
            )
        )
    if told.numbers.quarantine and told.tallies is None:  # else another section says it
        rows = sorted(told.numbers.quarantine.items(), key=lambda pair: -pair[1])
        blocks.append(
            Table(
                "Quarantined rows by rule",
                ("Rule", "Rows", "Meaning"),
                [(Name(rule), count, meanings().get(rule, "")) for rule, count in rows],
            )
        )
    return Section("coverage", "Coverage and losses", _coverage_says(told), blocks)


def _coverage_says(told: Told) -> str:
    errors = sorted(told.summary["errors"].items(), key=lambda pair: (-pair[1], pair[0]))
    failed = told.outcome(Outcome.FAILED)
    if not told.summary["items"]:
        says = "There are no items yet."
    elif told.looked_at:
        share = percent(ratio(told.outcome(Outcome.LABELLED), told.looked_at))
        says = f"{share} of {counted(told.looked_at, 'picture')} hold a {told.thing}."
    else:
        says = "No picture could be looked at."
    if failed:
        most = listed(f"{count:,} {printed(error)}" for error, count in errors[:3])
        says += f" {counted(failed, 'item')} failed{', most of them' if len(errors) > 3 else ''}: {most}."
    elif told.summary["items"]:
        says += " Nothing failed."
    if held := sum(told.numbers.quarantine.values()):
        rule, count = max(told.numbers.quarantine.items(), key=lambda pair: pair[1])
        says += f" Rules held back {counted(held, 'row')}, most often {printed(rule)} ({count:,})."
    if skipped := told.summary.get("skipped"):
        says += f" {counted(skipped, 'file')} skipped as hidden or plain text."
    return says


def rules(told: Told) -> Section | None:
    """Tell which rules held rows back or changed them; of a cleaned data set other sections do."""
    if told.tallies is not None and told.summary["rules"]:
        return None
    held, changed = told.numbers.quarantine, told.numbers.changes
    hits = sorted(told.summary["rules"].items(), key=lambda pair: (-pair[1], pair[0]))
    if not hits:
        return Section("rules", "Rules", "No rule held a row back or changed one.", [])
    rows: list[tuple[Cell, ...]] = [
        (Name(rule), count, held.get(rule, 0), changed.get(rule, 0), meanings().get(rule, "")) for rule, count in hits
    ]
    says = f"{counted(len(hits), 'rule')} applied, most often {printed(hits[0][0])} ({hits[0][1]:,})."
    return Section(
        "rules", "Rules", says, [Table("Rows by rule", ("Rule", "Hits", "Held back", "Changed", "Meaning"), rows)]
    )


@cache
def meanings() -> dict[str, str]:
    """Return what each rule means: the text below its name in `schemas.reasons`."""
    return {rule.value: " ".join(text.split()) for rule, text in reasons.meanings().items()}


def speed(told: Told) -> Section:
    """Tell how fast the run was, and which step it waited for."""
    run = told.summary["this_run"]
    if not run["items"]:
        return Section("speed", "Speed", f"Nothing new to do: this run ended after {run['seconds']:.1f} s.", [])
    rate = run["items"] / run["seconds"] if run["seconds"] else 0.0
    says = f"{counted(run['items'], 'item')} in {run['seconds']:,.1f} s, start-up included: {decimal(rate)} items/s."
    steps = {name: float(value) for name, value in (told.summary.get("steps") or {}).items() if value}
    if not steps:
        return Section("speed", "Speed", says, [])
    total = sum(steps.values())
    slowest = max(steps, key=lambda step: steps[step])
    says += f" The bottleneck is {slowest}: {percent(steps[slowest] / total)} of the time in all steps."
    return Section(
        "speed",
        "Speed",
        says,
        [
            Figure(
                "Seconds by step",
                "Steps that run side by side count in full.",
                charts.rows(
                    "Seconds by step",
                    [charts.Row(step, value, f"{decimal(value)} s") for step, value in steps.items()],
                ),
                Table(
                    "Seconds by step",
                    ("Step", "Seconds", "Share", "Items per second"),
                    [(step, value, Share(value / total), run["items"] / value) for step, value in steps.items()],
                ),
            )
        ],
    )


def configuration(told: Told) -> Section | None:
    """Tell what made the data set."""
    if not told.last:
        return None
    before = {each["configuration_hash"] for each in told.dataset.history}
    says = f"The last commit was made under configuration {told.last['configuration_hash'][:12]}."
    if len(before) > 1:
        says += f" {len(before)} configurations made this data set."
    blocks: list[Block] = [Table("Options", ("Option", "Value"), list(flat(told.last["configuration"])))]
    if told.tallies is None or told.last["models"]:
        blocks.append(Table("Models", ("Property", "Value"), list(flat(told.last["models"]))))
    return Section("configuration", "Configuration", says, blocks)


def flat(values: Mapping[str, Any], before: str = "", depth: int = 4) -> list[tuple[Cell, ...]]:
    """Return nested JSON as rows of dotted names and values; what is nested deeper is left out."""
    rows: list[tuple[Cell, ...]] = []
    for key, value in values.items():
        if isinstance(value, Mapping) and depth:
            rows += flat(value, f"{before}{key}.", depth - 1)
        else:
            rows.append((Name(before + key), _plain(value)))
    return rows


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join("…" if isinstance(each, list) else _plain(each) for each in value)
    if isinstance(value, Mapping):
        return "…"
    if isinstance(value, float):
        return decimal(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _words(told: Told, outcome: Outcome) -> str:
    if outcome is Outcome.NO_FACE:
        return f"no {told.thing}"
    return outcome.replace("_", " ")
