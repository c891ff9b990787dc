"""The suites as other users of Great Expectations load them: JSON that lies beside this file.

    python -m validation.published      # writes the files anew

The custom expectations in them are those of `validation.expectations`, which says how they are registered. That of the
data set is for the one row of figures that `validation.datasets` computes.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from schemas.vocabulary import EXPRESSIONS
from validation import datasets
from validation.suites import Expected, expectations
from validation.terms import annotated, cleaned

SUITES = ("annotate_images", "annotate_annotations", "clean_images", "clean_annotations", datasets.NAME)
"""The names of the suites; `<name>.json` is the file."""


def suite_json(name: str) -> bytes:
    """Return one of SUITES as JSON, for the labels of expressions."""
    if name == datasets.NAME:
        return _as_json(name, datasets.VERSION, datasets.dataset_expectations())
    job, _, table = name.partition("_")
    terms = annotated(EXPRESSIONS) if job == "annotate" else cleaned(EXPRESSIONS)
    return _as_json(name, terms.version, expectations(terms, "images" if table == "images" else "annotations"))


def _as_json(name: str, version: str, expected: Sequence[Expected]) -> bytes:
    told = [each.expectation.configuration.to_json_dict() for each in expected]
    suite = {"name": name, "expectations": told, "meta": {"labelstream": version}}
    return json.dumps(suite, indent=2, ensure_ascii=False).encode() + b"\n"


if __name__ == "__main__":
    for each in SUITES:
        Path(__file__).with_name(f"{each}.json").write_bytes(suite_json(each))
