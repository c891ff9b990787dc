"""What runs the job on a schedule, held to the tools that will read it and to the parser of the job itself."""

import fcntl
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import annotate, models
from pipelines import options as shared
from pipelines.metrics import Metrics, serving
from pipelines.samples import write_samples
from schemas.errors import UsageError
from tests.deploy.test_monitoring import metrics_in, promtool
from tests.extras import program
from tests.pipelines.test_metrics import get
from transforms.models.record import load_record

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
UNITS = sorted((DEPLOY / "systemd").iterdir())
DAG = DEPLOY / "airflow" / "annotate_nightly.py"
DOCKERFILE = DEPLOY / "Dockerfile"
MONITORING = DEPLOY / "monitoring"

INSTALLED = "/srv/labelstream/.venv/bin/python"
"""Where the DAG and the units expect it."""

TOOLS = Path(__file__).with_name("tools.txt")
AIRFLOW = DEPLOY / "airflow" / "constraints.txt"


# ------------------------------------------------------------------------------------------------ the tools


def environment(name: str, wanted: Path) -> Path:
    """Return the programs of an environment beside the repository's own, with what is `wanted` in it.

    It is made where that was asked for, kept, and made anew when other versions are wanted; else the test is skipped.
    """
    folder = ROOT / name
    stamp = folder / ".installed"
    if not (stamp.is_file() and stamp.read_text() == wanted.read_text()):
        if not thorough():
            pytest.skip(f"{name} is not there: LABELSTREAM_DEPLOY_TOOLS=1 installs it")
        venv.create(folder, clear=True, with_pip=True)
        done = say(folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "-r", wanted)
        assert done.code == 0, done.text
        stamp.write_text(wanted.read_text())
    return folder / "bin"


def thorough() -> bool:
    """Tell whether what takes long was asked for: in CI, or with LABELSTREAM_DEPLOY_TOOLS=1."""
    return os.environ.get("CI") == "true" or os.environ.get("LABELSTREAM_DEPLOY_TOOLS") == "1"


@dataclass(frozen=True)
class Said:
    """What a tool answered."""

    code: int
    text: str


def say(*command: str | Path, cwd: Path = ROOT, **variables: str) -> Said:
    """Run a tool to its end."""
    words = list(map(str, command))
    done = subprocess.run(
        words, cwd=cwd, env=os.environ | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600
    )
    return Said(done.returncode, done.stdout.decode())


def changed(source: Path, folder: Path, old: str, new: str) -> Path:
    """Return a copy of a file in which something is otherwise."""
    text = source.read_text()
    assert old in text
    copy = folder / source.name
    copy.write_text(text.replace(old, new))
    return copy


def understood(words: list[str]) -> dict[str, Any]:
    """Return the options of `python -m pipelines.annotate ...` as the job reads them; nothing odd may go to Beam."""
    python, *module = words[:3]
    assert Path(python).name == "python" and module == ["-m", "pipelines.annotate"]
    options, beam = shared.read(annotate.parser(), words[3:])
    assert [word.split("=")[0] for word in beam] in ([], ["--direct_num_workers"])
    return vars(options)


# ------------------------------------------------------------------------------------------------ Kubernetes


def kubernetes(kind: str) -> dict[str, Any]:
    """Return the one object of this kind."""
    (found,) = (each for file in KUBERNETES for each in yaml.safe_load_all(file.read_text()) if each["kind"] == kind)
    return dict(found)


def pods() -> Iterator[dict[str, Any]]:
    """Yield the two pods' specifications."""
    yield kubernetes("CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    yield kubernetes("Deployment")["spec"]["template"]["spec"]


def arguments(container: dict[str, Any]) -> list[str]:
    """Return a container's arguments with the variables that Kubernetes puts in."""
    values = kubernetes("ConfigMap")["data"]
    return [re.sub(r"\$\((\w+)\)", lambda found: values[found[1]], word) for word in container["args"]]


def validated(*files: Path) -> Said:
    return say(environment(".venv-deploy", TOOLS) / "kubernetes-validate", "--strict", *files)


def test_kubernetes_takes_every_object() -> None:
    """All fields are known to it, and of the right type."""
    said = validated(*KUBERNETES)
    assert said.code == 0, said.text
    assert said.text.count(" passed ") == sum(len(list(yaml.safe_load_all(file.read_text()))) for file in KUBERNETES)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("concurrencyPolicy:", "concurencyPolicy:"),  # a field that is not there
        ("backoffLimit: 3", "backoffLimit: three"),  # a value of another type
        ("operator: In,", ""),  # something required is missing
    ],
)
def test_a_wrong_object_is_found(old: str, new: str, tmp_path: Path) -> None:
    """The check can fail."""
    assert validated(changed(DEPLOY / "kubernetes" / "cronjob.yaml", tmp_path, old, new)).code != 0


def test_pods_run_commands_that_the_job_understands() -> None:
    """Every night over a bucket; and a topic, watched at the port that is open."""
    nightly, endless = pods()
    options = understood(arguments(nightly["containers"][0]))
    assert options["input"] == ["s3://raw/2026/"] and options["output"] == "s3://labelled/expressions/"
    (container,) = endless["containers"]
    options = understood(arguments(container))
    assert options["input"][0].startswith("kafka://") and options["results"].startswith("kafka://")
    assert not options["take_over"] and not options["until_caught_up"]
    assert [{"name": "metrics", "containerPort": options["metrics_port"]}] == container["ports"]
    assert any(Path(options["output"]).is_relative_to(mount["mountPath"]) for mount in container["volumeMounts"])


def test_a_job_is_not_tried_again_after_misuse() -> None:
    """The rule names the container as it is called, which no schema can know; two runs never meet."""
    spec = kubernetes("CronJob")["spec"]
    job = spec["jobTemplate"]["spec"]
    (pod, _) = pods()
    never, *_ = job["podFailurePolicy"]["rules"]
    assert never["action"] == "FailJob"
    assert never["onExitCodes"] == {"containerName": pod["containers"][0]["name"], "operator": "In", "values": [2]}
    assert (spec["concurrencyPolicy"], job["podReplacementPolicy"]) == ("Forbid", "Failed")
    deployment = kubernetes("Deployment")["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})


def test_probes_ask_what_is_answered() -> None:
    """A page that is not there would be a pod that is killed again and again."""
    _, endless = pods()
    probes = [value for key, value in endless["containers"][0].items() if key.endswith("Probe")]
    assert len(probes) == 3
    with serving(Metrics(), "127.0.0.1", 0) as url:
        pages = {probe["httpGet"]["path"]: get(url + probe["httpGet"]["path"]) for probe in probes}
    assert pages == {"/healthz": (200, "ok\n"), "/readyz": (503, "the models are being loaded\n")}


def test_pods_fit_the_image() -> None:
    """The user, the version and the folders that may be written are those of the Dockerfile; nothing else may be."""
    image = DOCKERFILE.read_text()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"-t labelstream:{version} " in (DEPLOY / "README.md").read_text()
    for pod in pods():
        (container,) = pod["containers"]
        user = pod["securityContext"]
        assert f"USER {user['runAsUser']}:{user['runAsGroup']}" in image and user["runAsNonRoot"]
        assert container["image"] == f"labelstream:{version}"
        locked = container["securityContext"]
        assert locked["readOnlyRootFilesystem"] and not locked["allowPrivilegeEscalation"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert {volume["name"] for volume in pod["volumes"]} == set(mounts.values())
        for variable in ("XDG_CACHE_HOME", "HOME"):
            assert re.search(rf"\b{variable}=(\S+)", image.partition("\nENV ")[2])[1] in mounts  # type: ignore[index]
        assert pod["serviceAccountName"] == kubernetes("ServiceAccount")["metadata"]["name"]
        assert {"configMapRef": {"name": kubernetes("ConfigMap")["metadata"]["name"]}} in container["envFrom"]


# ------------------------------------------------------------------------------------------------ the image


def hadolint(file: Path) -> Said:
    return say(environment(".venv-deploy", TOOLS) / "hadolint", "--no-color", file)


def test_the_dockerfile_is_clean() -> None:
    """A linter of Dockerfiles and of the shell in them has nothing to say."""
    assert hadolint(DOCKERFILE) == Said(0, "")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("RUN apt-get", "RUNN apt-get"),  # no instruction
        ('ENTRYPOINT ["tini", "--"]', "ENTRYPOINT tini --"),  # a shell that keeps signals to itself
        ("USER 10001:10001", "USER root"),
    ],
)
def test_a_wrong_dockerfile_is_found(old: str, new: str, tmp_path: Path) -> None:
    """The check can fail."""
    assert hadolint(changed(DOCKERFILE, tmp_path, old, new)).code != 0


def test_the_image_has_all_of_the_code() -> None:
    """What is copied is there and let through; every package of the tree is among those that are installed."""
    lines = [line.split() for line in DOCKERFILE.read_text().splitlines()]
    sources = {source for words in lines if words[:1] == ["COPY"] for source in words[1:-1]}
    let_through = set(Path(f"{DOCKERFILE}.dockerignore").read_text().splitlines())
    assert all((ROOT / source).exists() for source in sources)
    assert {f"!{source}" for source in sources} <= let_through
    installed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    tree = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for top in ("schemas", "validation", "transforms", "pipelines")
        for file in (ROOT / top).rglob("*.py")
    }
    assert tree == set(installed)
    assert {name.split(".")[0] for name in tree} <= sources


def test_the_image_is_built_with_the_default_models() -> None:
    """Its build pulls and checks what the command needs, by names that there are."""
    text = DOCKERFILE.read_text()
    names = re.findall(r'ARG MODELS="(.*)"', text)[0].split()
    for job in re.findall(r"-m pipelines\.models (\w+) \$\{MODELS\}", text):
        assert models.parser().parse_args([job, *names]).names == names
    assert {load_record(name).kind for name in names} == {"detector", "classifier"}
    assert annotate.parser().get_default("classifier") in names


# ------------------------------------------------------------------------------------------------ systemd


def unit(file: Path) -> dict[str, list[str]]:
    """Return the settings of a unit, each with all its values."""
    settings: dict[str, list[str]] = {}
    for line in file.read_text().replace("\\\n", " ").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            settings.setdefault(key, []).append(value)
    return settings


def filled(word: str, values: dict[str, str]) -> str:
    """Put variables in as systemd does: each stays within its word.

    >>> filled("--input=${IN}", {"IN": "a b"})
    '--input=a b'
    """
    return re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], word)


def verified(folder: Path) -> Said:
    """Ask systemd about the units of a folder, which find each other there; our Python stands for the one they name."""
    names = []
    for file in sorted(folder.iterdir()):
        file.write_text(file.read_text().replace(INSTALLED, sys.executable))
        names.append(file.name.replace("@.", "@x."))
    return say(program("systemd-analyze"), "verify", "--man=no", *(f"./{name}" for name in names), cwd=folder)


@pytest.fixture(name="units")
def _units(tmp_path: Path) -> Path:
    """A copy of the units."""
    folder = tmp_path / "units"
    folder.mkdir()
    for file in UNITS:
        (folder / file.name).write_text(file.read_text())
    return folder


def test_systemd_takes_every_unit(units: Path) -> None:
    """It says nothing; its exit code is 0 also where it ignores a line."""
    assert verified(units) == Said(0, "")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("labelstream-annotate.service", "TimeoutStartSec=", "TimeoutStartSecs="),  # no such setting
        ("labelstream-annotate.service", "Type=oneshot", "Type=oneshot\nRestart=always"),  # not for a oneshot
        ("labelstream-annotate.service", INSTALLED, "/nowhere/python"),
        ("labelstream-annotate.timer", "02,05:00", "02,25:00"),
        ("labelstream-ingest.service", "KillMode=mixed", "KillMode=gently"),
        ("labelstream-alert@.service", "ExecStart=/bin/sh", "ExecStart=sh -c 'x"),  # a quote that is not closed
    ],
)
def test_a_wrong_unit_is_found(name: str, old: str, new: str, units: Path) -> None:
    """The check can fail."""
    changed(units / name, units, old, new)
    assert verified(units).text


def test_units_run_commands_that_the_job_understands() -> None:
    """Every night over a bucket; and a topic, with the password in a file that systemd hands over."""
    found = {}
    for file in UNITS:
        settings = unit(file)
        words = shlex.split(settings.get("ExecStart", [""])[0])
        if INSTALLED in words:
            values = dict(each.split("=", 1) for each in settings["Environment"])
            values["CREDENTIALS_DIRECTORY"] = "/run/credentials"
            found[file.stem] = understood([filled(word, values) for word in words])
    nightly, endless = found["labelstream-annotate"], found["labelstream-ingest"]
    assert nightly["input"] == ["s3://raw/2026/"] and nightly["output"] == "s3://labelled/expressions/"
    assert endless["kafka_config"] == "/run/credentials/kafka.conf" and endless["metrics_port"] == 9464
    assert len(found) == 2


@pytest.mark.parametrize("name", ["labelstream-annotate.service", "labelstream-ingest.service"])
def test_units_may_do_little(name: str, units: Path) -> None:
    """systemd's own measure, from 0 (nothing open) to 100; without these settings it is above 90."""
    text = (units / name).read_text()
    measure = (program("systemd-analyze"), "security", "--offline=yes", "--threshold=20", "--no-pager")
    assert say(*measure, units / name).code == 0
    (units / name).write_text(text.partition("\nUMask=")[0])
    assert say(*measure, units / name).code != 0


def test_failures_are_told_and_misuse_is_not_repeated() -> None:
    """Each unit that can fail starts the one that tells; a oneshot is repeated by its timer alone."""
    nightly, endless = (unit(DEPLOY / "systemd" / f"labelstream-{name}.service") for name in ("annotate", "ingest"))
    assert nightly["OnFailure"] == endless["OnFailure"] == ["labelstream-alert@%n.service"]
    assert (DEPLOY / "systemd" / "labelstream-alert@.service").is_file()
    assert "Restart" not in nightly
    assert (endless["Restart"], endless["RestartPreventExitStatus"]) == (["always"], ["2"])


# ------------------------------------------------------------------------------------------------ Airflow


def airflow(folder: Path, home: Path, *runs: dict[str, Any]) -> dict[str, Any]:
    """Return what Airflow tells of the DAGs in a folder, and how runs of them ended."""
    bin_ = environment(".venv-airflow", AIRFLOW)
    home.mkdir(exist_ok=True)
    settings = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder),
    }
    more: list[str] = []
    if runs:
        made = say(bin_ / "airflow", "db", "migrate", **settings)
        assert made.code == 0, made.text
        more = [json.dumps(runs)]
    told = home / "told.json"
    said = say(bin_ / "python", Path(__file__).parent / "run_dag.py", folder, told, *more, **settings)
    assert said.code == 0, said.text
    (home / "log").write_text(said.text)
    return dict(json.loads(told.read_text()))


@pytest.fixture(name="dags")
def _dags(tmp_path: Path) -> Path:
    """A folder with the DAG, our Python in the place of the one it names."""
    folder = tmp_path / "dags"
    folder.mkdir()
    changed(DAG, folder, INSTALLED, sys.executable)
    return folder


def test_airflow_loads_the_dag_as_it_is_meant(tmp_path: Path) -> None:
    """Its own reader finds no fault, one DAG, and these limits; the command is one that the job understands."""
    told = airflow(DAG.parent, tmp_path / "home")
    assert told["errors"] == []
    (dag,) = told["dags"]
    command, env = dag.pop("command"), dag.pop("env")
    assert dag == {
        "dag": "labelstream_annotate_nightly",
        "schedule": "0 2 * * *",
        "catchup": False,
        "max_active_runs": 1,
        "params": {"input": "s3://raw/2026/", "output": "s3://labelled/expressions/"},
        "trigger_rule": "all_success",
        "retries": 3,
        "retry_delay_s": 300,
        "backoff": 2,
        "execution_timeout_s": 6 * 3600,
        "told_of_tries": True,
        "told_of_failure": True,
        "keeps_environment": True,
    }
    values = {name: dag["params"][re.findall(r"params\.(\w+)", text)[0]] for name, text in env.items()}
    quoted = re.sub(r'"\$(\w+)"', lambda found: shlex.quote(values[found[1]]), command)
    assert "$" not in quoted and "{{" not in quoted
    options = understood(shlex.split(quoted)[1:])
    assert options["input"] == ["s3://raw/2026/"] and options["output"] == "s3://labelled/expressions/"


def test_wrong_dags_are_found(tmp_path: Path) -> None:
    """The check can fail: a name that is not there, an hour that no day has, an argument that nobody takes."""
    folder = tmp_path / "dags"
    faults = (("import DAG, Context, Param", "import Parameter"), ("0 2 * * *", "0 26 * * *"), ("retries=", "retrys="))
    for at, (old, new) in enumerate(faults):
        (folder / str(at)).mkdir(parents=True)
        changed(DAG, folder / str(at), old, new)
    told = airflow(folder, tmp_path / "home")
    assert len(told["errors"]) == len(faults) and not told["dags"]


def test_airflow_runs_the_job_and_heeds_its_exit_codes(dags: Path, tmp_path: Path) -> None:
    """The real operator, command and database: 0 is a success, 1 is tried again, 2 is not, and late is stopped."""
    if not thorough():
        pytest.skip("LABELSTREAM_DEPLOY_TOOLS=1 runs it, for half a minute or more")
    picture = (write_samples(tmp_path / "samples") / "two.jpg").read_bytes()
    good, bad, many = (tmp_path / name for name in ("good; exit 1", "bad", "many"))
    for folder, content in ((good, picture), (bad, b"\xff\xd8\xff\xe0 cut"), (many, picture)):
        folder.mkdir()
        for number in range(2000 if folder == many else 1):
            (folder / f"{number}.jpg").write_bytes(content + str(number).encode())

    def run(source: Path, output: str, limit_s: float | None = None) -> dict[str, Any]:
        return {"conf": {"input": str(source), "output": str(tmp_path / "out" / output)}, "limit_s": limit_s}

    home = tmp_path / "home"
    told = airflow(
        dags, home, run(good, "good"), run(bad, "bad"), run(tmp_path / "none", "none"), run(many, "many", 10)
    )
    assert told["runs"] == [
        {"state": "success", "tries": 1},
        {"state": "success", "tries": 2},  # nothing is new to the second try: so the first must be told
        {"state": "failed", "tries": 1},
        {"state": "failed", "tries": 1},
    ]
    assert len(re.findall("labelstream failed, try 1: .*(?:code 1|code 2|Timeout)", (home / "log").read_text())) == 3
    # The run that was late has let go of its data set.
    with (tmp_path / "out" / "many" / "_tmp" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


# ------------------------------------------------------------------------------------------------ alarms and words


def nightly() -> list[dict[str, Any]]:
    """Return the rules of runs on a schedule."""
    (group,) = yaml.safe_load((MONITORING / "nightly.yaml").read_text())["groups"]
    return list(group["rules"])


def test_alarms_of_the_night_are_heard_when_they_must_and_only_then() -> None:
    """Real rules on made series, by Prometheus' own tool; each of them loud once and quiet once."""
    assert f"{len(nightly())} rules found" in promtool("check", "rules", "nightly.yaml")
    assert "SUCCESS" in promtool("test", "rules", "nightly_test.yaml")
    tests = yaml.safe_load((MONITORING / "nightly_test.yaml").read_text())["tests"]
    checks = [check for test in tests for check in test.get("promql_expr_test", []) if check.get("exp_samples")]
    loud = {name for check in checks for name in re.findall("Labelstream\\w+", check["expr"])}
    quiet = {check["alertname"] for check in tests[0]["alert_rule_test"]}
    assert loud == quiet == {rule["alert"] for rule in nightly()}


@pytest.mark.parametrize(("old", "new"), [("> 30 * 3600", "> 300 * 3600"), ('state="failed"', 'state="inactive"')])
def test_a_wrong_alarm_is_found(old: str, new: str, tmp_path: Path) -> None:
    """The check can fail."""
    changed(MONITORING / "nightly.yaml", tmp_path, old, new)
    (tmp_path / "nightly_test.yaml").write_text((MONITORING / "nightly_test.yaml").read_text())
    with pytest.raises(AssertionError):
        promtool("test", "rules", "nightly_test.yaml", folder=tmp_path)


def test_alarms_of_the_night_look_at_what_is_deployed() -> None:
    """The job and the units are called as the rules call them; what they ask is told by exporters under these names."""
    asked = " ".join(rule["expr"] for rule in nightly())
    named = set(re.findall(r'(?:cronjob|job_name|name)=~?"([^"]+)"', asked))
    job = kubernetes("CronJob")["metadata"]["name"]
    units = [file.name for file in UNITS]
    assert named == {job, f"{job}-.+", "labelstream-.+[.]service", "labelstream-annotate.timer"}
    assert "labelstream-annotate.timer" in units and any(
        re.fullmatch("labelstream-.+[.]service", name) for name in units
    )
    assert {name for name in metrics_in(asked) if name.startswith(("kube_", "node_"))} == {
        # docs/metrics/workload of kube-state-metrics
        "kube_cronjob_created",
        "kube_cronjob_spec_suspend",
        "kube_cronjob_status_last_successful_time",
        "kube_job_created",
        "kube_job_failed",
        "kube_job_status_failed",
        # collector/systemd_linux.go of node_exporter
        "node_systemd_timer_last_trigger_seconds",
        "node_systemd_unit_state",
    }


def test_the_commands_of_the_readme_are_understood() -> None:
    """Those that a person copies, too."""
    lines = [line for line in (DEPLOY / "README.md").read_text().splitlines() if "python -m pipelines.annotate" in line]
    told = [re.search(r"\S*python -m pipelines\.annotate[^`|>]*", line)[0] for line in lines]  # type: ignore[index]
    assert len(told) >= 1
    for command in told:
        understood(shlex.split(command))


def test_an_option_that_is_renamed_is_found() -> None:
    """The check can fail."""
    with pytest.raises(UsageError, match="unknown option --inputs"):
        understood(["python", "-m", "pipelines.annotate", "--inputs", "photos/"])
