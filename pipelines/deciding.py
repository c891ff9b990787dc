"""What is decided of the sources before the first row is cleaned: conventions of boxes, meanings of labels.

Each by the evidence of all rows of a source, never row by row.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from pipelines.survey import Survey, mark_of
from schemas.raw import Facts, Source
from transforms.codes import Codes, prove_codes
from transforms.conventions import Asked, Convention, Evidence, decide, to_pixels
from transforms.labels import Repair, frequent, repair
from transforms.outliers import Spread
from transforms.tidy import Decided, SourceWord
from transforms.vocabularies import Vocabulary, from_names

FROM_SOURCE = "from-source"
"""`--vocabulary from-source`: the names that each source declares, or that its rows mostly have."""

_MOST_TOLD = 20
_PEOPLES_WORD = frozenset({"jsonl", "parquet"})
"""The formats in which a confidence of 1 says that a person confirmed the label."""


@dataclass(frozen=True)
class Wishes:
    """What a person said of the data: the vocabulary (null: from each source), the boxes' convention, the codes."""

    vocabulary: Vocabulary | None
    bbox_format: Asked | None
    codes: Codes | None


@dataclass(frozen=True)
class Ruling:
    """What was decided, and the categories of the data set in their order."""

    decided: Decided
    categories: tuple[str, ...]
    conventions: tuple[Convention, ...]
    labels: tuple[int, ...]

    def lines(self, sources: Sequence[Source]) -> list[str]:
        """Return what a person is told of each source; of many only how many there are."""
        if len(sources) > _MOST_TOLD:
            return [f"{len(sources):,} sources with {sum(self.labels):,} labels"]
        return [
            f"{source.name}: {source.form}, {count:,} labels, boxes as {rule.corners} in {rule.unit}"
            for source, rule, count in zip(sources, self.conventions, self.labels, strict=True)
        ]

    def exclusive(self, sources: Sequence[Source]) -> tuple[str, ...]:
        """Return the names of the sources of which a box, or a picture, has one label only."""
        return tuple(source.name for source, word in zip(sources, self.decided.sources, strict=True) if word.exclusive)

    def told(self, survey: Survey) -> list[dict[str, Any]]:
        """Return what a manifest says of the sources."""
        return [
            {
                "mark": mark_of(source, survey.home),
                "name": source.name,
                "form": source.form,
                "corners": rule.corners,
                "unit": rule.unit,
            }
            for source, rule in zip(survey.sources, self.conventions, strict=True)
        ]


def rule_on(survey: Survey, wishes: Wishes) -> Ruling:
    """Decide for each source. Raises UsageError where two conventions explain its boxes equally well."""
    counts, evidence = _gather(survey)
    conventions, words = [], []
    vocabularies = []
    for number, (source, facts) in enumerate(zip(survey.sources, survey.facts, strict=True)):
        # What a person says of one source must not turn a sound one beside it that declares another.
        alone = len(survey.sources) == 1
        convention = decide(evidence[number], facts, wishes.bbox_format, source.name, alone=alone)
        vocabulary = wishes.vocabulary or _own_vocabulary(facts, counts[number])
        codes = wishes.codes or prove_codes(source, facts, counts[number], facts.columns)
        labels: list[str | None] = sorted(counts[number], key=lambda label: (label is not None, label or ""))
        repairs = dict(zip(labels, repair(labels, vocabulary, codes), strict=True))
        conventions.append(convention)
        vocabularies.append(vocabulary)
        words.append(SourceWord(source.name, convention, repairs, facts.exclusive, source.form in _PEOPLES_WORD))
    categories = tuple(dict.fromkeys(name for vocabulary in vocabularies for name in vocabulary.names))
    limits = _limits(survey, conventions, [word.repairs for word in words])
    totals = tuple(sum(counted.values()) for counted in counts)
    return Ruling(Decided(tuple(words), limits), categories, tuple(conventions), totals)


def _gather(survey: Survey) -> tuple[list[Counter[str | None]], list[Evidence]]:
    """Count each source's labels, and collect what its boxes say of their convention."""
    counts: list[Counter[str | None]] = [Counter() for _ in survey.sources]
    evidence = [Evidence() for _ in survey.sources]
    for part in range(survey.parts):
        sizes = survey.pictures(part).select("picture", pl.col("width").alias("w_px"), pl.col("height").alias("h_px"))
        labels = survey.labels(part)
        for source, label, count in labels.group_by("source", "label").len().iter_rows():
            counts[source][label] += count
        boxed = labels.select("picture", "source", "a", "b", "c", "d").join(sizes, on="picture", how="left")
        for (source,), rows in boxed.partition_by("source", as_dict=True).items():
            evidence[int(source)].add(rows.rename({"w_px": "width", "h_px": "height"}))
    return counts, evidence


def _own_vocabulary(facts: Facts, counts: Mapping[str | None, int]) -> Vocabulary:
    if facts.categories is not None:
        return from_names(facts.categories)
    return from_names(frequent({label: count for label, count in counts.items() if label is not None}))


def _limits(
    survey: Survey, conventions: Sequence[Convention], repairs: Sequence[Mapping[str | None, Repair]]
) -> pl.DataFrame:
    """Return beyond what a box of a label is absurd, by how those of the whole input are spread."""
    spread = Spread()
    for part in range(survey.parts):
        sizes = survey.pictures(part).select("picture", "width", "height")
        labels = survey.labels(part).drop("width", "height").join(sizes, on="picture", how="left")
        boxes = []
        for (source,), rows in labels.partition_by("source", as_dict=True).items():
            names = {label: found.label for label, found in repairs[int(source)].items()}
            meant = rows.with_columns(pl.col("label").replace_strict(names, default=None, return_dtype=pl.String))
            boxes.append(to_pixels(meant, conventions[int(source)]))
        if boxes:
            spread.add(pl.concat(boxes))
    return spread.limits()
