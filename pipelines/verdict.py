"""What Great Expectations says of a whole data set at the end of a run: report/validation.json; pages on request."""

import json
import tempfile
from pathlib import Path
from typing import Any

from pipelines.dataset import Dataset
from schemas.errors import RunError
from schemas.layout import REPORT
from transforms.places import Place
from transforms.storage import write_atomic
from validation.datasets import Counts, judge_dataset
from validation.documents import as_result, build_docs
from validation.own import Own, own_expectations
from validation.suites import expectations, merged
from validation.terms import Terms

VALIDATION = f"{REPORT}/validation.json"
"""The result of the data set's own expectations, and the counts that the next one measures drift by."""

DATA_DOCS = f"{REPORT}/data_docs"


def judge_whole(dataset: Dataset, vocabulary: tuple[str, ...]) -> tuple[str, ...]:
    """Hold the data set to its expectations, write the result, and return what a person is told."""
    path = dataset.path / VALIDATION
    result = judge_dataset(
        dataset.scan("images"),
        dataset.scan("annotations"),
        dataset.scan("quarantine"),
        Counts.of(_before(path)),
        vocabulary,
    )
    write_atomic(str(path), json.dumps(result.told, indent=2, ensure_ascii=False).encode())
    return result.lines


def _before(path: Place) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def write_docs(dataset: Dataset, terms: Terms, own: Own | None) -> Place:
    """Build the Data Docs of all commits and of the data set; return their first page."""
    if not dataset.manifests:
        raise RunError(f"{dataset.path} holds nothing yet: there is nothing to build pages of")
    at = dataset.manifests[-1].told["committed_at"]
    told = merged(each for manifest in dataset.manifests for each in manifest.told.get("validation", []))
    results = []
    for each in told:
        expected = own_expectations(own, each["table"]) if own and each["suite"] == f"own.{own.name}" else None
        if expected is None and each["suite"] == terms.suite:
            expected = list(expectations(terms, each["table"]))
        if expected is not None:
            results.append(as_result(each, expected, at))
    whole = _before(dataset.path / VALIDATION)
    with tempfile.TemporaryDirectory(prefix="labelstream-docs-") as folder:
        index = build_docs([*results, *([whole] if whole else [])], Path(folder))
        for page in sorted(Path(folder).iterdir()):
            write_atomic(str(dataset.path / DATA_DOCS / page.name), page.read_bytes())
    return dataset.path / DATA_DOCS / index.name
