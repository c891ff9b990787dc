"""Label what is new, every night: an Airflow 3 DAG around the command of the README.

It needs Airflow alone. labelstream stands in an environment of its own on the worker, because the two want different
versions of the same packages. What to change is at the top.
"""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Context, Param
from airflow.sdk.exceptions import AirflowException, AirflowFailException

PYTHON = "/srv/labelstream/.venv/bin/python"
INPUT = "s3://raw/2026/"
OUTPUT = "s3://labelled/expressions/"

MISUSE = 2
"""The exit code after which another try would end alike: wrong options, or the data set is in use by another run."""

log = logging.getLogger("labelstream")


class Annotate(BashOperator):
    """Run the command; fail without another try where its exit code says that none will help."""

    def execute(self, context: Context) -> Any:
        """Run it. Raises AirflowFailException for misuse, AirflowException for a run that failed."""
        try:
            return super().execute(context)
        except AirflowException as error:
            process = self.subprocess_hook.sub_process
            if process is not None and process.returncode == MISUSE:
                raise AirflowFailException(f"exit code {MISUSE}: see the last line of the log") from error
            raise


def tell(context: Context) -> None:
    """Say that a try failed. To be told by mail, put `SmtpNotifier(to="night@example.org")` in its place."""
    log.error("labelstream failed, try %s: %s", context["ti"].try_number, context.get("exception"))


with DAG(
    dag_id="labelstream_annotate_nightly",
    description="Labels what is new in a folder or bucket",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,  # one run does whatever was missed
    max_active_runs=1,  # a second one would find the data set in use
    params={
        "input": Param(INPUT, type="string", minLength=1, description="a folder, a file, a bucket, or @list.txt"),
        "output": Param(OUTPUT, type="string", minLength=1, description="the data set"),
    },
    tags=["labelstream"],
) as dag:
    Annotate(
        task_id="annotate",
        # The parameters come as variables, not as text in the command: whoever may start a run may not write shell.
        # exec: the signal of `on_kill` reaches the run, and no shell is left between.
        bash_command=(
            f"exec {PYTHON} -m pipelines.annotate --runner=DirectRunner"
            ' --input "$LABELSTREAM_INPUT" --output "$LABELSTREAM_OUTPUT"'
            " --max-failure-rate 0.05 --log-format json"
        ),
        env={"LABELSTREAM_INPUT": "{{ params.input }}", "LABELSTREAM_OUTPUT": "{{ params.output }}"},
        append_env=True,  # credentials of the bucket come from the worker's environment
        skip_on_exit_code=None,
        execution_timeout=timedelta(hours=6),  # then SIGTERM: what is committed stands, the next try goes on
        retries=3,
        retry_delay=timedelta(minutes=5),
        retry_exponential_backoff=2,
        max_retry_delay=timedelta(hours=1),
        # Each try that fails is told, not the last alone: where too many items failed they are failed for good, so the
        # next try finds nothing new and ends well.
        on_retry_callback=tell,
        on_failure_callback=tell,
    )
