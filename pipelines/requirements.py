"""What must hold before a job begins: its runner is known, its output can be used, the project is installed."""

from typing import TYPE_CHECKING

from schemas.errors import RunError, UsageError

if TYPE_CHECKING:
    from transforms.places import Place


def require_runner(name: str) -> str:
    """Return the runner's name as Beam has it; raise UsageError for one that Beam does not know."""
    if name.lower() == "directrunner":
        return "DirectRunner"
    from apache_beam.runners.runner import create_runner

    try:
        create_runner(name)
    except (ValueError, ImportError) as error:
        raise UsageError(f"--runner {name}: expected DirectRunner or a runner of Beam: {error}") from None
    return name


def require_output(output: "Place") -> None:
    """Raise UsageError unless `output` is a data set, or may become one."""
    from pipelines.dataset import is_dataset
    from schemas.layout import MANIFESTS, PLANS, TEMPORARY
    from transforms.buckets.faults import Away
    from transforms.buckets.names import SCHEMES
    from transforms.buckets.objects import require_bucket
    from transforms.places import Prefix

    if "://" in str(output) and not isinstance(output, Prefix):
        kinds = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise UsageError(f"--output {output}: expected a folder on this machine, or in a bucket ({kinds})")
    try:
        if isinstance(output, Prefix):
            require_bucket(str(output))
        if output.exists() and not output.is_dir():
            raise UsageError(f"--output {output}: expected a folder, but this is a file")
        # A run that was killed at its very start leaves some of these.
        begun = {TEMPORARY, PLANS, MANIFESTS}
        if output.is_dir() and not is_dataset(output) and {path.name for path in output.iterdir()} - begun:
            raise UsageError(
                f"--output {output}: this folder is not empty and is no data set; name a new folder or a data set"
            )
    except Away as error:
        if error.may_pass:
            raise
        raise UsageError(f"--output {output} cannot be used: {error}") from None
    except OSError as error:
        raise UsageError(f"--output {output} cannot be used: {error.strerror}") from None


def version() -> str:
    """Return the project's version."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("labelstream")
    except PackageNotFoundError:
        raise RunError("labelstream is not installed in this environment: run make install") from None
