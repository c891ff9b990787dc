"""Which engine runs an epoch, and how its errors are told."""

import os
import re
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo, FnApiRunner
from apache_beam.runners.portability.portable_runner import JobServiceHandle

from pipelines.flow import Settings, build
from pipelines.planning import Plan
from schemas.errors import RunError


def pipeline_options(runner: str, beam_arguments: Sequence[str]) -> PipelineOptions:
    """Return Beam's options. On this machine all cores work as threads, unless the user said otherwise.

    OpenCV and ONNX Runtime release the GIL, so threads scale and share one copy of the models.
    """
    options = PipelineOptions(list(beam_arguments), runner=runner)
    given = {argument.split("=")[0] for argument in beam_arguments}
    direct = options.view_as(DirectOptions)
    if "--direct_num_workers" not in given:
        direct.direct_num_workers = os.cpu_count() or 1
    if "--direct_running_mode" not in given:
        direct.direct_running_mode = "multi_threading"
    return options


def run_plan(plan: Plan, settings: Settings, runner: str, options: PipelineOptions) -> None:
    """Run one epoch to its end; raise `RunError` where it could not be."""
    engine = _embedded(options) if runner == "DirectRunner" else runner
    pipeline = beam.Pipeline(runner=engine, options=options)
    build(pipeline, plan, settings)
    try:
        pipeline.run().wait_until_finish()
    except Exception as error:
        raise RunError(cause(error)) from error


def _embedded(options: PipelineOptions) -> FnApiRunner:
    """Return the pinned embedded engine.

    Beam's own DirectRunner first tries to download another engine, which hangs behind a closed network, and then
    chooses by the pipeline's content.
    """
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options(drop_default=True))
    return FnApiRunner(
        provision_info=ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded))
    )


def cause(error: BaseException) -> str:
    """Return in one line why a pipeline failed: our own error's text where there is one, else the last error's."""
    text = str(error)
    own = re.findall(r"(?:RunError|UsageError|Stopped): (.+)", text)
    if own:
        return _plain(own[-1])
    if isinstance(error, RunError):
        return _plain(text)
    lines = [line.strip() for line in text.splitlines() if re.match(r"^\s*[\w.]*(Error|Exception)\b.*:", line)]
    return _plain(lines[-1] if lines else f"{type(error).__name__}: {text.splitlines()[0] if text else ''}")


def _plain(text: str) -> str:
    return re.sub(r"\s*\[while running.*|\s*Traceback \(most recent.*", "", text).strip()
