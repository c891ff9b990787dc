"""Run by Airflow's own Python: what its DAGs are, and how runs of them end. `python run_dag.py DAGS TOLD.json [RUNS]`.

RUNS is a JSON list of {"conf": {...}, "limit_s": seconds or null}; without it nothing is run and no database is needed.
"""

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.dag_processing.dagbag import DagBag


def facts(dag: Any) -> dict[str, Any]:
    """Return what Airflow has understood of a DAG of one task."""
    (task,) = dag.tasks
    return {
        "dag": dag.dag_id,
        "schedule": dag.schedule,
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "params": {name: dag.params[name] for name in dag.params},
        "trigger_rule": task.trigger_rule,
        "retries": task.retries,
        "retry_delay_s": task.retry_delay.total_seconds(),
        "backoff": task.retry_exponential_backoff,
        "execution_timeout_s": task.execution_timeout.total_seconds(),
        "told_of_tries": bool(task.on_retry_callback),
        "told_of_failure": bool(task.on_failure_callback),
        "command": task.bash_command,
        "env": task.env,
        "keeps_environment": task.append_env,
    }


def end(dag: Any, conf: dict[str, Any], limit_s: float | None) -> dict[str, Any]:
    """Run the DAG, with one more try and no wait before it; return how its task ended."""
    (task,) = dag.tasks
    task.retries, task.retry_delay, task.retry_exponential_backoff = 1, timedelta(0), 0
    if limit_s is not None:
        task.retries, task.execution_timeout = 0, timedelta(seconds=limit_s)
    run = dag.test(run_conf=conf)
    (instance,) = run.get_task_instances()
    return {"state": str(instance.state), "tries": instance.try_number}


def main() -> None:
    bag = DagBag(dag_folder=sys.argv[1])
    told: dict[str, Any] = {
        "errors": list(bag.import_errors.values()),
        "dags": [facts(dag) for dag in bag.dags.values()],
    }
    runs = json.loads(sys.argv[3]) if len(sys.argv) > 3 else []
    for dag in bag.dags.values():
        told["runs"] = [end(dag, run["conf"], run["limit_s"]) for run in runs]
    Path(sys.argv[2]).write_text(json.dumps(told))


if __name__ == "__main__":
    main()
