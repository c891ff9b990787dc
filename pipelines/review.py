"""What a person asks of a data set and tells it: what a rule did, what waits for a decision, and decisions.

`explain`, `undo`, `write_review` and `decide` stand behind the options of `pipelines.clean`. Each returns lines to
print; the last two that change the data set also say whether they did: then its exports, summary and report are to be
written anew.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

import polars as pl
import pyarrow as pa

from pipelines.dataset import Dataset
from pipelines.epochs import Watch
from pipelines.rewrite import rewrite, rewriting
from schemas.errors import UsageError
from schemas.reasons import RECORDED, REVIEW, Rule, meanings
from schemas.tables import Tables
from schemas.vocabulary import EXPRESSIONS, label_order
from transforms import ledger, review_files, stopping
from transforms.decisions import HELD, PEOPLE, Canonical, Decision, Refusal, Verdict, apply, words_of
from transforms.edits import box_of
from transforms.review_files import Waiting
from transforms.storage import printable
from transforms.vocabularies import expressions, from_names
from transforms.words import fold
from validation.reviewers import cohens_kappa, krippendorffs_alpha

MOST_SHOWN = 20
"""Examples of a rule's work, and kinds of changes, that are shown."""

MOST_CHARS = 120
"""Of a text in an example."""

REJECTED = "(rejected)"
"""What a rejection is where labels are compared."""

_STOPPED = "stopped on request: what was committed stands; run the same command again to go on"


def explain(dataset: Dataset, rule: str) -> list[str]:
    """Return what a rule is and what it did here, with examples. UsageError for one that is unknown here."""
    did = rules_here(dataset)
    _require_known(rule, did)
    meaning = meanings()[Rule(rule)] if rule in set(Rule) else "An expectation of your own."
    if rule not in did:
        return [f"{rule}: {meaning}", f"It did nothing here. {_told(did)}"]
    changes = dataset.scan("changes").filter(pl.col("rule") == rule)
    if rule in PEOPLE:
        changes = changes.filter(pl.col("field").is_in(["label", "bbox"]))  # the rest goes with any word
    held = dataset.scan("quarantine").filter(pl.col("rule") == rule)
    frequent = (
        changes.group_by("field", "before", "after")
        .len()
        .filter(pl.col("len") > 1)
        .sort("len", "field", "before", "after", descending=[True, False, False, False])
        .head(MOST_SHOWN)
        .collect()
    )
    changed, back = (frame.select(pl.len()).collect().item() for frame in (changes, held))
    verb = "recorded" if rule in RECORDED else "changed"
    return [
        f"{rule}: {meaning}",
        f"It {verb} {changed:,} values and held back {back:,} rows.",
        *_copies(dataset, rule),
        *(f"  {row['len']:,} x {_change(row)}" for row in frequent.iter_rows(named=True)),
        *(f"  {_whose(row)}: {_change(row)}{_sure(row)}" for row in changes.head(MOST_SHOWN).collect().to_dicts()),
        *(f"  {_whose(row)}: {_holding(row)}" for row in held.head(MOST_SHOWN).collect().to_dicts()),
    ]


def rules_here(dataset: Dataset) -> dict[str, int]:
    """Return the rules that did something in a data set, each with its rows of `changes` and `quarantine`."""
    hits = pl.concat([dataset.scan(table).select("rule") for table in ("quarantine", "changes")])
    did: dict[str, int] = dict(hits.group_by("rule").len().sort("rule").collect().iter_rows())
    silent = _silent_copies(dataset).select(pl.len()).collect().item()
    if silent:
        did[Rule.DUPLICATE_EXACT] = did.get(Rule.DUPLICATE_EXACT, 0) + silent
    return did


def undo(dataset: Dataset, rule: str, watch: Watch = lambda: None) -> tuple[list[str], bool]:
    """Take back what a rule did; return what that was, and whether the data set was changed.

    UsageError for a rule that is unknown here, and for one whose doing cannot be taken back.
    """
    _require_known(rule, rules_here(dataset))
    if rule in RECORDED and not dataset.scan("quarantine").filter(pl.col("rule") == rule).head(1).collect().height:
        raise UsageError(f"{rule} only records what it finds: it changed nothing, and there is nothing to take back")
    total: Counter[str] = Counter()
    left = 0

    def change(tables: Tables) -> tuple[Tables, Mapping[str, int]] | None:
        nonlocal left
        undone = ledger.undo(tables, rule)
        left += undone.left
        return (undone.tables, undone.counts) if any(undone.counts.values()) else None

    with rewriting(dataset):
        for counts in rewrite(dataset, _touched(dataset, rule), change, {"undo": rule}, watch):
            total.update(counts)
        stopped = stopping.stop_requested()
    return [*_undone(rule, total, left), *_copies(dataset, rule), *([_STOPPED] if stopped else [])], bool(total)


def write_review(dataset: Dataset, path: str) -> list[str]:
    """Write what a person must decide as a review file, CSV or JSON lines; return what was written."""
    rows = waiting(dataset)
    review_files.write_review(path, rows)
    return [f"{printable(path)}: {len(rows):,} annotations wait for a person's decision"]


def waiting(dataset: Dataset) -> list[Waiting]:
    """Return what waits for a person, by name, frame and rank.

    What is on a copy of another picture, or on one that is held back itself, could not stand: it does not wait.
    """
    quarantine = dataset.scan("quarantine")
    down = quarantine.filter(pl.col("kind") == "image").select(image_id="id")
    pictures = dataset.scan("images").filter(pl.col("duplicate_of").is_null())
    rows = (
        quarantine.filter(
            (pl.col("kind") == "annotation") & pl.col("rule").is_in(REVIEW) & pl.col("held").is_not_null()
        )
        .select(
            "id", "image_id", "held", "candidates", reason=pl.format("{}: {}", "rule", pl.col("detail").fill_null(""))
        )
        .group_by("id", maintain_order=True)
        .agg(pl.col("image_id", "held").first(), pl.col("candidates", "reason"))
        .join(pictures.select("image_id", "file_name", "frame_index", "source_uri"), on="image_id")
        .join(down, on="image_id", how="anti")
        .with_columns(rank=pl.col("id").str.extract(r"-(\d+)$").cast(pl.Int64, strict=False))
        .sort("file_name", "frame_index", "image_id", "rank", "id")
        .collect()
    )
    return [_waiting(row) for row in rows.iter_rows(named=True)]


def decide(
    dataset: Dataset,
    path: str,
    reviewer: str | None = None,
    canonical: Canonical | None = None,
    watch: Watch = lambda: None,
) -> tuple[list[str], bool]:
    """Lay a review file's decisions over the data set; return what was refused and taken, and whether anything was.

    `reviewer` decided where the file does not say who. `canonical` gives the names that labels may have; they are those
    of the data set's categories unless it is given.
    """
    decisions, refusals = review_files.read_review(path, reviewer, datetime.now(UTC))
    name = canonical or canonical_of(dataset)
    taken: Counter[str] = Counter()
    with rewriting(dataset):
        places = places_of(dataset, [decision.id for decision in decisions])
        known: dict[str, list[Decision]] = defaultdict(list)
        for decision in decisions:
            if decision.id in places:
                known[places[decision.id]].append(decision)
            else:
                refusals.append(Refusal(decision.line, f"no annotation has the id {decision.id!r}"))

        def change(tables: Tables) -> tuple[Tables, Mapping[str, int]] | None:
            mine = [decision for key in keys_of(tables) for decision in known.get(key, ())]
            applied = apply(tables, sorted(mine, key=lambda decision: decision.line), name)
            refusals.extend(applied.refusals)
            return (applied.tables, applied.taken) if any(applied.taken.values()) else None

        for counts in rewrite(dataset, list(known), change, {"decisions": "review"}, watch):
            taken.update(counts)
        stopped = stopping.stop_requested()
    return [*_decided(taken, refusals), *([_STOPPED] if stopped else [])], bool(taken)


def agreement(dataset: Dataset) -> dict[str, Any]:
    """Return how far people agree on the labels of what several of them have judged, as plain JSON values.

    Cohen's kappa is told of each pair of reviewers who judged two things or more in common, Krippendorff's alpha of all
    together; null where everybody says the same one label, which leaves nothing to compare.
    """
    spoken = dataset.scan("changes").filter(pl.col("rule").is_in(PEOPLE) & (pl.col("field") == "label"))
    units: dict[str, dict[str, str]] = defaultdict(dict)
    for word in words_of(spoken.collect().to_dicts()):
        units[word.annotation][word.reviewer] = word.label or REJECTED
    common: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for said in units.values():
        for one, other in combinations(sorted(said), 2):
            common[one, other].append((said[one], said[other]))
    disputed = dataset.scan("quarantine").filter(pl.col("rule") == Rule.PERSON_DISAGREEMENT)
    return {
        "annotations": len(units),
        "by_several": sum(len(said) > 1 for said in units.values()),
        "disputed": disputed.select(pl.col("id").n_unique()).collect().item(),
        "reviewers": dict(sorted(Counter(name for said in units.values() for name in said).items())),
        "alpha": krippendorffs_alpha(list(units.values())),
        "pairs": [
            {"reviewers": list(names), "annotations": len(pairs), "kappa": cohens_kappa(pairs)}
            for names, pairs in sorted(common.items())
            if len(pairs) > 1
        ],
    }


def _require_known(rule: str, did: Mapping[str, int]) -> None:
    if rule not in did and rule not in set(Rule):
        raise UsageError(f"no rule {rule!r}. {_told(did)}")


def _told(did: Mapping[str, int]) -> str:
    if not did:
        return "No rule did anything here."
    return "Rules that did something here: " + ", ".join(f"{rule} ({count:,})" for rule, count in did.items())


def _silent_copies(dataset: Dataset) -> pl.LazyFrame:
    """Return the copies of which the ledger has no row: they were found before anything was labelled on them."""
    moves = dataset.scan("changes").filter(pl.col("field") == "duplicate_of").select(image_id="id")
    return dataset.scan("images").filter(pl.col("duplicate_of").is_not_null()).join(moves, on="image_id", how="anti")


def _copies(dataset: Dataset, rule: str) -> list[str]:
    if rule != Rule.DUPLICATE_EXACT:
        return []
    count = _silent_copies(dataset).select(pl.len()).collect().item()
    told = f"{count:,} pictures are copies that were never labelled themselves; annotate --duplicates keep would do it"
    return [told] if count else []


def _change(row: Mapping[str, Any]) -> str:
    before, after = (_short(row[name]) for name in ("before", "after"))
    return f"{row['field']} {before} -> {after}" if row["before"] or row["after"] else row["field"]


def _sure(row: Mapping[str, Any]) -> str:
    who = f", by {_plain(row['reviewer'])}" if row["reviewer"] else ""
    return f"{who}, confidence {row['confidence']:.2f}" if row["confidence"] is not None else who


def _holding(row: Mapping[str, Any]) -> str:
    candidates = f"; candidates {_plain(', '.join(row['candidates']))}" if row["candidates"] else ""
    confidence = json.loads(row["held"]).get("confidence") if row["held"] else None
    sure = "" if confidence is None else f"; confidence {confidence:.2f}"
    return f"{row['field']} {_short(row['value'])}: {_plain(row['detail'] or 'held back')}{candidates}{sure}"


def _whose(row: Mapping[str, Any]) -> str:
    return f"{_plain(row['file_name'] or 'no picture')} ({row['id']})"


def _short(value: str | None) -> str:
    """Return a value for a person, in quotes where spaces would not be seen."""
    if value is None:
        return "nothing"
    text = value if len(value) <= MOST_CHARS else f"{value[:MOST_CHARS]}..."
    return text if text.startswith("[") and text.isprintable() else repr(text)


def _plain(text: str) -> str:
    """Return a text as one line that does nothing to a terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _touched(dataset: Dataset, rule: str) -> list[str]:
    """Return the keys of the items on which a rule did something, also where a person has decided since."""
    changes = dataset.scan("changes")
    name = json.dumps(rule, ensure_ascii=False)
    lifted = (
        pl.col("rule").is_in(PEOPLE) & (pl.col("field") == HELD) & pl.col("before").str.contains(name, literal=True)
    )
    frames = (
        changes.filter((pl.col("rule") == rule) | lifted),
        dataset.scan("quarantine").filter(pl.col("rule") == rule),
    )
    keys = pl.concat([frame.select("item_key") for frame in frames]).unique().collect(engine="streaming")
    return keys["item_key"].to_list()


def _undone(rule: str, total: Mapping[str, int], left: int) -> list[str]:
    parts = {
        "values": "values are again what they were before",
        "annotations": "annotations stand again",
        "pictures": "pictures stand again",
        "words": "decisions were taken back",
        "fallen": "changes that later rules had made of the same values fell with it",
        "released": "rows of quarantine are gone, of what other rules hold still",
    }
    done = [f"{total[name]:,} {told}" for name, told in parts.items() if total.get(name)]
    lines = [f"{rule}: {'; '.join(done) if done else 'there was nothing to take back'}"]
    return lines + ([f"{left:,} annotations stay held back: they have no picture to stand on"] if left else [])


def _waiting(row: Mapping[str, Any]) -> Waiting:
    held = json.loads(row["held"])
    named = (name for names in row["candidates"] for name in names or ())
    return Waiting(
        id=row["id"],
        picture=row["file_name"],
        frame=row["frame_index"],
        source_uri=row["source_uri"],
        box=box_of(held),
        label=held.get("label"),
        candidates=list(dict.fromkeys(named)),
        reason="; ".join(row["reason"]),
        confidence=held.get("confidence"),
    )


def canonical_of(dataset: Dataset) -> Canonical:
    """Return the names that labels may have: those that the manifests declare, and aliases if they are ours."""
    order = label_order(dataset.labels)
    names = [name for told in dataset.history for name in told.get("categories", order)]
    vocabulary = expressions() if set(names) <= set(EXPRESSIONS) else from_names(names)
    folded = {fold(name): name for name in vocabulary.names}
    return lambda label: folded.get(fold(label)) or vocabulary.aliases.get(fold(label))


def places_of(dataset: Dataset, ids: Sequence[str]) -> dict[str, str]:
    """Return the keys of the items with which annotations came, by the annotation's id."""
    wanted = pl.LazyFrame({"id": ids}, schema={"id": pl.String}).unique()
    standing = dataset.scan("annotations").select("item_key", id="annotation_id")
    held = dataset.scan("quarantine").filter(pl.col("kind") == "annotation").select("item_key", "id")
    found = pl.concat([frame.join(wanted, on="id", how="semi").select("id", "item_key") for frame in (standing, held)])
    return dict(found.collect().iter_rows())


def keys_of(tables: Tables) -> list[str]:
    keys = pa.chunked_array([*tables.images["item_key"].chunks, *tables.quarantine["item_key"].chunks], pa.string())
    return list(keys.unique().to_pylist())


def _decided(taken: Mapping[str, int], refusals: Sequence[Refusal]) -> list[str]:
    listed = [f"line {each.line}: {_plain(each.reason)}" for each in sorted(refusals, key=lambda each: each.line)]
    told = ", ".join(f"{taken[verdict]:,} {verdict}" for verdict in Verdict if taken.get(verdict))
    count = sum(taken.values())
    return [*listed, f"{count:,} decisions taken{f' ({told})' if told else ''}, {len(refusals):,} refused"]
