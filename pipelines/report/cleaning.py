"""The sections on what cleaning did: sources, changes, what is held back, duplicates, people's decisions, expectations.

Whatever is missing, or cannot be used, in what other jobs and people wrote is left out.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from pipelines.report.page import Block, Cell, Command, Name, Section, Share, Table, Value
from pipelines.report.tallies import PEOPLE, Doing, Group
from pipelines.report.told import Told, read_object
from pipelines.report.words import counted, decimal, listed, printed, ratio
from pipelines.review import agreement
from schemas.layout import REPORT
from schemas.reasons import RECORDED, REVIEW, Rule, meanings

SOURCES_SHOWN, NAMES_SHOWN, PEOPLE_SHOWN, EXPECTATIONS_SHOWN = 20, 20, 20, 50
_LARGE_GROUP = 10
"""Groups of duplicates are told apart by size up to this one."""

_NONE = "–"

_ID = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{24,}")
"""An id of a picture: its beginning is enough for a person."""

_CORNERS = {"xyxy": "two corners", "xywh": "corner and size", "cxcywh": "middle and size"}
_UNITS = {"pixels": "pixels", "unit": "0 to 1", "percent": "percent"}


def sources(told: Told) -> Section | None:
    """Tell which label files there are, and how each was read."""
    known = {
        str(source.get("mark")): source
        for manifest in told.dataset.manifests
        for source in manifest.told.get("sources") or ()
        if isinstance(source, dict)
    }
    if not known or told.tallies is None:
        return None
    by_source = told.tallies.labels_by_source
    rows: list[tuple[Cell, ...]] = [
        (
            Name(_text(each.get("name"))),
            _text(each.get("form")),
            by_source.get(_text(each.get("name")), 0),
            _convention(each),
        )
        for each in list(known.values())[:SOURCES_SHOWN]
    ]
    says = f"{counted(len(known), 'source')} of labels."
    if len(known) > SOURCES_SHOWN:
        says += f" The first {SOURCES_SHOWN} are shown, {len(known) - SOURCES_SHOWN:,} more are not."
    categories = told.categories
    if categories:
        more = len(categories) - NAMES_SHOWN
        names = [printed(name, 40) for name in categories[:NAMES_SHOWN]] + ([f"{more:,} more"] if more > 0 else [])
        says += f" {'Labels' if len(categories) > 1 else 'The one label'} that may stand: {listed(names)}."
    return Section(
        "sources", "Sources", says, [Table("Label files", ("Source", "Format", "Labels that stand", "Boxes"), rows)]
    )


def _convention(source: Mapping[str, Any]) -> str:
    corners, unit = (_text(source.get(name)) for name in ("corners", "unit"))
    if not corners:
        return _NONE
    words = [f"{_CORNERS[corners]} ({corners})" if corners in _CORNERS else corners, _UNITS.get(unit, unit)]
    return ", ".join(word for word in words if word)


def changed(told: Told) -> Section | None:
    """Tell which values each rule changed into which."""
    if told.tallies is None or not told.tallies.changes:
        return None
    counts = told.tallies.changes
    real = {rule: count for rule, count in counts.items() if rule not in RECORDED}
    recorded = sum(counts.values()) - sum(real.values())
    says = []
    if real:
        total = sum(real.values())
        says.append(f"{counted(total, 'value')} {_verb(total)} changed by {_by(real)}.")
    if recorded:
        says.append(f"{counted(recorded, 'finding')} changed nothing and {_verb(recorded)} recorded only.")
    says.append(_left_out(counts, told.tallies.changed))
    blocks: list[Block] = [_changes(doing) for doing in told.tallies.changed]
    rules = [doing.rule for doing in told.tallies.changed if doing.rule in set(Rule) - PEOPLE - RECORDED]
    if rules:
        blocks.append(Command("To take back what a rule did, for example:", _command(told, f"--undo {rules[0]}")))
    return Section("changed", "What was changed", " ".join(filter(None, says)), blocks)


def _changes(doing: Doing) -> Table:
    what = "recorded" if doing.rule in RECORDED else "changed"
    columns: dict[str, list[Cell]] = {
        "Before": [_value(kind.example["before"]) for kind in doing.kinds],
        "After": [_value(kind.example["after"]) for kind in doing.kinds],
    }
    return _table(f"{doing.rule}: {doing.rows:,} {what}", doing, columns)


def held(told: Told) -> Section | None:
    """Tell what each rule held back; what waits for a person stands first."""
    if told.tallies is None or not told.tallies.quarantine:
        return None
    counts, waiting = told.tallies.quarantine, told.tallies.waiting
    rows = sum(counts.values())
    says = [f"{counted(rows, 'row')} {_verb(rows)} held back by {_by(counts)}; none is lost."]
    blocks: list[Block] = []
    if waiting:
        says.insert(0, f"{counted(waiting, 'label')} {'waits' if waiting == 1 else 'wait'} for a person's decision.")
        blocks += [
            Command("To get what waits, with candidates:", _command(told, "--needs-review review.csv")),
            Command("To give the decisions back:", _command(told, "--decisions review.csv")),
        ]
    says.append(_left_out(counts, told.tallies.held))
    blocks += [_holdings(doing) for doing in told.tallies.held]
    return Section("held", "Held back", " ".join(filter(None, says)), blocks)


def _holdings(doing: Doing) -> Table:
    waits = " for a person" if doing.rule in REVIEW else ""
    columns: dict[str, list[Cell]] = {
        "Value": [_value(kind.example["value"]) for kind in doing.kinds],
        "Candidates": [_candidates(kind.example["candidates"]) for kind in doing.kinds],
        "Why": [printed(_ID.sub(r"\1…", _text(kind.example["detail"])), 120) or _NONE for kind in doing.kinds],
    }
    return _table(f"{doing.rule}: {doing.rows:,} held back{waits}", doing, columns)


def _table(caption: str, doing: Doing, columns: Mapping[str, list[Cell]]) -> Table:
    """Return a rule's examples, without columns that say nothing."""
    fields = [_text(kind.example["field"]) for kind in doing.kinds]
    every: dict[str, list[Cell]] = {
        "Rows": [kind.rows for kind in doing.kinds],
        **({"Field": [*fields]} if len(set(fields)) > 1 else {}),
        **{name: cells for name, cells in columns.items() if any(cell != _NONE for cell in cells)},
        "For example": [Name(printed(_text(kind.example["file_name"]), 80) or _NONE) for kind in doing.kinds],
    }
    return Table(caption, tuple(every), list(zip(*every.values(), strict=True)), _meaning(doing.rule))


def duplicates(told: Told) -> Section | None:
    """Tell which pictures are copies of others."""
    if told.tallies is None or not told.tallies.sizes:
        return None
    sizes, copies = told.tallies.sizes, told.tallies.copies
    groups = sum(sizes.values())
    kinds = {Rule.DUPLICATE_EXACT: "of the same bytes", Rule.DUPLICATE_NEAR: "that show the same"}
    parts = [f"{copies[rule]:,} {what}" for rule, what in kinds.items() if copies.get(rule)]
    total = sum(count * (size - 1) for size, count in sizes.items())
    says = f"{counted(total, 'picture')} {'is a copy of another' if total == 1 else 'are copies of others'}"
    says += f": {listed(parts)}." if parts else "."
    says += f" Of {counted(groups, 'group')} of alike pictures the largest has {max(sizes):,}. "
    says += "Labels of a copy went to the picture that stands."
    shown: dict[int, int] = {}
    for size, count in sizes.items():
        shown[min(size, _LARGE_GROUP)] = shown.get(min(size, _LARGE_GROUP), 0) + count
    rows: list[tuple[Cell, ...]] = [
        (f"{size} or more" if size == _LARGE_GROUP else f"{size}", count, Share(ratio(count, groups)))
        for size, count in sorted(shown.items())
    ]
    named: list[tuple[Cell, ...]] = [
        (Name(group.standing), group.count + 1, _copies(group)) for group in told.tallies.groups
    ]
    return Section(
        "duplicates",
        "Duplicates",
        says,
        [
            Table("Groups by size", ("Pictures", "Groups", "Share"), rows),
            Table("The largest groups", ("What stands", "Pictures", "Copies"), named),
        ],
    )


def _copies(group: Group) -> Cell:
    more = group.count - len(group.copies)
    return Value("\n".join(printed(name, 80) for name in group.copies) + (f"\n… {more:,} more" if more else ""))


def people(told: Told) -> Section | None:
    """Tell what people decided, and how far they agree."""
    decided = told.numbers.changes.keys() | told.numbers.quarantine.keys()
    if not any(rule in PEOPLE for rule in decided):
        return None
    found = agreement(told.dataset)
    if not found["annotations"]:
        return None
    reviewers, pairs = found["reviewers"], found["pairs"]
    who = "1 person" if len(reviewers) == 1 else f"{len(reviewers):,} people"
    says = f"{who} judged {counted(found['annotations'], 'label')}, {found['by_several']:,} of them more than one."
    if found["alpha"] is not None:
        says += f" Krippendorff's alpha is {decimal(found['alpha'])}: 1 is full agreement, 0 what chance would give."
    if found["disputed"]:
        says += f" {counted(found['disputed'], 'label')} {_verb(found['disputed'], 'is', 'are')} in dispute."
    most = sorted(reviewers.items(), key=lambda pair: (-pair[1], pair[0]))[:PEOPLE_SHOWN]
    blocks: list[Block] = [Table("Labels by reviewer", ("Reviewer", "Labels"), [(Name(who), n) for who, n in most])]
    if pairs:
        both = sorted(pairs, key=lambda pair: (-pair["annotations"], pair["reviewers"]))[:PEOPLE_SHOWN]
        blocks.append(
            Table(
                "Agreement of two",
                ("Reviewers", "Labels of both", "Cohen's kappa"),
                [
                    (Name(" and ".join(printed(who, 60) for who in each["reviewers"])), each["annotations"], kappa)
                    for each in both
                    for kappa in [each["kappa"]]
                ],
            )
        )
    return Section("people", "People's decisions", says, blocks)


def expectations(told: Told) -> Section | None:
    """Tell which expectations held: of each part as it was written, and of the data set as a whole."""
    whole = _judged(read_object(told.dataset.path / REPORT / "validation.json"))
    suites = _suites(told.dataset.manifests, {suite for suite, *_ in whole})
    if not whole and not suites:
        return None
    evaluated = sum(one["evaluated"] for one in suites) + len(whole)
    bad = sum(len(one["failed"]) for one in suites) + sum(not good for _, good, *_ in whole)
    says = f"{counted(evaluated, 'expectation')}: "
    says += f"{bad:,} {'does' if bad == 1 else 'do'} not hold." if bad else "all hold."
    blocks: list[Block] = []
    if whole:
        rows: list[tuple[Cell, ...]] = [
            (printed(what), "holds" if good else "does not hold", observed, Name(rule))
            for _, good, what, observed, rule in sorted(whole, key=lambda one: one[1])[:EXPECTATIONS_SHOWN]
        ]
        blocks.append(Table("The whole data set", ("Expected", "Result", "Found", "Rule"), rows))
    if suites:
        blocks.append(
            Table(
                "Each part as it was written",
                ("Suite", "Table", "Expectations", "Held", "Rows"),
                [
                    (Name(one["suite"]), one["table"], one["evaluated"], one["evaluated"] - len(one["failed"]), rows)
                    for one in suites[:EXPECTATIONS_SHOWN]
                    for rows in [one["rows"]]
                ],
            )
        )
        failed = [(name, one["suite"], rows) for one in suites for name, rows in one["failed"].items()]
        if failed:
            most = sorted(failed, key=lambda one: (-one[2], one[0]))[:EXPECTATIONS_SHOWN]
            blocks.append(
                Table(
                    "What did not hold",
                    ("Expectation", "Suite", "Rows"),
                    [(Name(name), Name(suite), rows) for name, suite, rows in most],
                    "Rows that broke it, which are held back; 0 for one that is about a whole table or only counts.",
                )
            )
    return Section("expectations", "Expectations", says, blocks)


def _suites(manifests: Sequence[Any], told_of: set[str]) -> list[dict[str, Any]]:
    """Add up what the manifests say of each suite; what is told of as a whole is left out."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for manifest in manifests:
        for result in manifest.told.get("validation") or ():
            suite, table = (_text(result.get(name)) for name in ("suite", "table"))
            if {suite, f"{suite}_{table}"} & told_of:
                continue
            one = found.setdefault((suite, table), {"suite": suite, "table": table, "rows": 0, "failed": {}})
            one["evaluated"] = max(one.get("evaluated", 0), _count(result.get("evaluated")))
            one["rows"] += _count(result.get("rows"))
            failed = result.get("failed")
            for name, rows in (failed if isinstance(failed, dict) else dict.fromkeys(failed or (), 0)).items():
                one["failed"][name] = one["failed"].get(name, 0) + _count(rows)
    return list(found.values())


_Judged = tuple[str, bool, str, Cell, str]


def _judged(told: Any, suite: str = "", depth: int = 3) -> list[_Judged]:
    """Return (suite, success, what, found, rule) of a validation result, or of several, of Great Expectations."""
    if isinstance(told, list):
        return [one for each in told for one in _judged(each, suite, depth - 1)] if depth else []
    if not isinstance(told, dict):
        return []
    asked = told.get("expectation_config")
    if not isinstance(asked, dict):
        name = _text(told.get("suite_name")) or suite
        return _judged(told.get("results"), name, depth)
    meta, result = (each if isinstance(each, dict) else {} for each in (asked.get("meta"), told.get("result")))
    found = result.get("observed_value", result.get("unexpected_count"))
    what = _text(asked.get("description")) or _text(asked.get("type"))
    return [(suite, told.get("success") is True, what, _number(found), _text(meta.get("rule")))]


def _command(told: Told, option: str) -> str:
    return f"python -m pipelines.clean --dataset {shlex.quote(str(told.dataset.path))} {option}"


def _left_out(counts: Mapping[str, int], shown: Sequence[Doing]) -> str:
    more = len(counts) - len(shown)
    return f"{counted(more, 'rule')} that did less {_verb(more, 'is', 'are')} not shown." if more else ""


def _by(counts: Mapping[str, int]) -> str:
    rule, count = max(counts.items(), key=lambda pair: pair[1])
    return f"{len(counts):,} rules, most often {printed(rule)} ({count:,})" if len(counts) > 1 else printed(rule)


def _meaning(rule: str) -> str:
    return meanings()[Rule(rule)] if rule in set(Rule) else "An expectation of your own."


def _verb(count: int, one: str = "was", several: str = "were") -> str:
    return one if count == 1 else several


def _candidates(names: Sequence[str | None] | None) -> Cell:
    if not names:
        return _NONE
    more = len(names) > 5
    return ", ".join(printed(name or "", 40) for name in names[:5]) + (", …" if more else "")


def _value(text: str | None) -> Cell:
    """Return a value of the tables: a box as its numbers, a text so that its blanks are seen."""
    if text is None:
        return _NONE
    return _numbers(text) or Value(printed(text, 60))


def _numbers(text: str) -> str:
    if not text.startswith("["):
        return ""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    if not told or any(isinstance(each, bool) or not isinstance(each, int | float) for each in told):
        return ""
    return ", ".join(f"{float(each):.6g}" if abs(each) < 1e300 else "…" for each in told[:8])


def _number(value: Any) -> Cell:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not abs(value) < 1e15 or not isfinite(value):
        return None
    return int(value) if value == int(value) else float(value)


def _count(value: Any) -> int:
    number = _number(value)
    return round(number) if isinstance(number, int | float) else 0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
