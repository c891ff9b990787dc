"""The one page that a person opens after a run: report/index.html, whole in itself, without a script or a request."""

from typing import Any

from pipelines.dataset import Dataset
from pipelines.report.evaluation import evaluated
from pipelines.report.numbers import measure
from pipelines.report.page import render
from pipelines.report.sections import headlines, made, note, sections
from pipelines.report.tallies import tally
from pipelines.report.told import Told
from schemas.layout import REPORT
from transforms.storage import write_atomic


def write_report(dataset: Dataset, told: dict[str, Any]) -> None:
    """Write report/index.html of a data set; `told` is what `pipelines.summary.summarise` returns. Raises RunError."""
    most_first = sorted(told["errors"], key=lambda error: (-told["errors"][error], error))
    known = Told(told, measure(dataset, most_first), dataset, tally(dataset) if _is_cleaned(dataset) else None)
    folder = dataset.path / REPORT
    page = render(
        title=dataset.path.resolve().name,
        made=made(known),
        headlines=headlines(known),
        sections=sections(known, evaluated(folder / "evaluation.json")),
        note=note(known),
    )
    write_atomic(str(folder / "index.html"), page)


def _is_cleaned(dataset: Dataset) -> bool:
    """Tell whether the labels came in files: no detector found them."""
    return bool(dataset.manifests) and not any("detector" in told["models"] for told in dataset.history)
