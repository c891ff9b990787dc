"""What a rule makes of rows: those that stay, what was changed in them, and those that are held back."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

CHANGES: dict[str, pl.DataType] = {
    "n": pl.UInt32(),
    "field": pl.String(),
    "before": pl.String(),
    "after": pl.String(),
    "rule": pl.String(),
    "confidence": pl.Float32(),  # of the rule in this change, 0..1; 1 where nothing was guessed
}

REJECTS: dict[str, pl.DataType] = {
    "n": pl.UInt32(),
    "rule": pl.String(),
    "field": pl.String(),
    "value": pl.String(),
    "candidates": pl.List(pl.String()),
    "detail": pl.String(),
}


@dataclass(frozen=True)
class Judged:
    """Rows after a rule. `n` numbers the rows; each is in `rows` or in `rejects`, and each change names its row."""

    rows: pl.DataFrame
    changes: pl.DataFrame
    rejects: pl.DataFrame

    @staticmethod
    def of(rows: pl.DataFrame, changes: Sequence[pl.DataFrame] = (), rejects: Sequence[pl.DataFrame] = ()) -> "Judged":
        """Return the rows with what was found, brought to the columns of CHANGES and REJECTS."""
        return Judged(rows, _shaped(changes, CHANGES), _shaped(rejects, REJECTS))

    def then(self, later: "Judged") -> "Judged":
        """Return what stands after `later`, a rule that was applied to our rows."""
        return Judged(later.rows, pl.concat([self.changes, later.changes]), pl.concat([self.rejects, later.rejects]))


def _shaped(frames: Sequence[pl.DataFrame], shape: dict[str, pl.DataType]) -> pl.DataFrame:
    columns = [
        [
            (pl.col(name) if name in frame.columns else pl.lit(None)).cast(kind).alias(name)
            for name, kind in shape.items()
        ]
        for frame in frames
    ]
    return pl.concat([pl.DataFrame(schema=shape), *(f.select(c) for f, c in zip(frames, columns, strict=True))])
