"""Which engine runs an epoch, and how its errors are told."""

import contextlib
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_provision_api_pb2, beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo, FnApiRunner
from apache_beam.runners.portability.portable_runner import JobServiceHandle

from schemas.errors import RunError
from schemas.layout import TEMPORARY
from transforms.places import place
from transforms.storage import write_atomic


class EpochBroke(RunError):
    """A step raised something that it never should: perhaps because of one item, and perhaps another time not."""


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


# Beam's embedded workers send what they have written every second, from a thread of its own, also in the middle of an
# element whose coder is Python's: behind the cut its bytes are read as another element's. 0 sends by size alone, which
# is only done between elements.
worker_handlers.DATA_BUFFER_TIME_LIMIT_MS = 0


def run_pipeline(
    build: Callable[[beam.Pipeline], None], what: str, root: str, runner: str, options: PipelineOptions
) -> None:
    """Run what `build` joins to its end; raise `RunError` where it could not be, `EpochBroke` where no
    error of ours says why.

    Beam's workers print tracebacks on stderr whatever the logging says: they are kept aside, and written to
    `_tmp/last-error.txt` of the data set `root` where the error is not one of ours, which say all that is to be said.
    """
    engine = _embedded(options) if runner == "DirectRunner" else runner
    pipeline = beam.Pipeline(runner=engine, options=options)
    build(pipeline)
    with _telling(what, root):
        pipeline.run().wait_until_finish()


def shares_memory(runner: str, options: PipelineOptions) -> bool:
    """Tell whether the workers are threads of this process."""
    return runner == "DirectRunner" and options.view_as(DirectOptions).direct_running_mode == "multi_threading"


class Repeated:
    """One pipeline that the embedded engine runs again and again.

    It is built and translated once: for an epoch of a few pictures that takes longer than all that the steps do.
    """

    def __init__(self, build: Callable[[beam.Pipeline], None], root: str, options: PipelineOptions) -> None:
        self.build, self.root, self.options = build, root, options
        self.engine = _Remembering.of(options)
        self.lone_worker = _embedded(options)  # has one worker, as long as it runs what another has translated
        self.in_one_thread: beam_runner_api_pb2.Pipeline | None = None

    def run(self, what: str, *, alone: bool) -> None:
        """Run it to its end, as `run_pipeline`; `alone` where there is not enough for more than one worker."""
        with _telling(what, self.root):
            if self.engine.translated is None:
                pipeline = beam.Pipeline(runner=self.engine, options=self.options)
                self.build(pipeline)
                pipeline.run().wait_until_finish()
            elif alone:
                self.in_one_thread = self.in_one_thread or _without_servers(self.engine.translated)
                self.lone_worker.run_via_runner_api(self.in_one_thread, self.options).wait_until_finish()
            else:
                self.engine.run_via_runner_api(self.engine.translated, self.options).wait_until_finish()


def _without_servers(translated: beam_runner_api_pb2.Pipeline) -> beam_runner_api_pb2.Pipeline:
    """Return the pipeline for a worker in the engine's own thread, to which nothing must be sent over a socket."""
    changed = beam_runner_api_pb2.Pipeline()
    changed.CopyFrom(translated)
    for environment in changed.components.environments.values():
        if environment.urn == python_urns.EMBEDDED_PYTHON_GRPC:
            environment.urn = python_urns.EMBEDDED_PYTHON
            environment.payload = b""
    return changed


@contextlib.contextmanager
def _telling(what: str, root: str) -> Iterator[None]:
    """Turn whatever a run raises into an error of ours."""
    aside = io.StringIO()
    try:
        with contextlib.redirect_stderr(aside):
            yield
    except Exception as error:  # noqa: BLE001  Beam wraps whatever a worker raised in types of its own
        own = own_message(error)
        if own:
            raise RunError(own) from None
        details = place(root) / TEMPORARY / "last-error.txt"
        write_atomic(str(details), f"{aside.getvalue()}\n{error}\n".encode())
        raise EpochBroke(f"{what} broke: {last_error(str(error))}; details are in {details}") from None


def _embedded(options: PipelineOptions) -> FnApiRunner:
    """Return the pinned embedded engine.

    Beam's own DirectRunner first tries to download another engine, which hangs behind a closed network, and then
    chooses by the pipeline's content.
    """
    return FnApiRunner(provision_info=_provision(options))


def _provision(options: PipelineOptions) -> ExtendedProvisionInfo:
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options(drop_default=True))
    return ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded))


class _Remembering(FnApiRunner):  # type: ignore[misc,unused-ignore]
    """The embedded engine, which remembers the pipeline as it translated it."""

    translated: beam_runner_api_pb2.Pipeline | None = None

    @classmethod
    def of(cls, options: PipelineOptions) -> "_Remembering":
        return cls(provision_info=_provision(options))

    def run_via_runner_api(self, pipeline_proto: beam_runner_api_pb2.Pipeline, options: PipelineOptions) -> Any:
        if self.translated is None:
            self.translated = beam_runner_api_pb2.Pipeline()
            self.translated.CopyFrom(pipeline_proto)
        return super().run_via_runner_api(pipeline_proto, options)


def own_message(error: BaseException) -> str:
    """Return the text of our own error that made a pipeline fail, or '' where it was another."""
    own = re.findall(r"(?:RunError|UsageError): (.+)", str(error))
    return _plain(own[-1] if own else str(error) if isinstance(error, RunError) else "")


def last_error(text: str) -> str:
    """Return the last line of `text` that names an error."""
    lines = [line.strip() for line in text.splitlines() if re.match(r"^\s*[\w.]*(Error|Exception|Fault)\b", line)]
    return _plain(lines[-1] if lines else text.strip().split("\n")[-1])


def _plain(text: str) -> str:
    return re.sub(r"\s*\[while running.*", "", text).strip()
