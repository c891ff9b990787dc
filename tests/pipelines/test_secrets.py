"""A stream over TLS with a password: end to end, and the password is nowhere to be read."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.dataset import Dataset
from tests.brokers import USER, Broker
from tests.streams import picture
from transforms.kafka.address import Address

ENDLESS = 120


def write_settings(path: Path, broker: Broker, **more: str) -> Path:
    told = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": USER,
        "sasl.password": broker.password,
        "ssl.ca.location": str(broker.ca),
    } | {name.replace("_", "."): value for name, value in more.items()}
    path.write_text("".join(f"{name}={value}\n" for name, value in told.items()))
    return path


def annotate(broker: Broker, topic: str, out: Path, settings: Path) -> subprocess.Popen[str]:
    at = broker.sasl_address
    words = [
        *(sys.executable, "-m", "pipelines.annotate", "--detector", "none", "--classifier", "mini-xception"),
        *("--input", f"kafka://{at}/{topic}", "--output", str(out), "--results", f"kafka://{at}/{topic}-labels"),
        *("--dead-letter", f"kafka://{at}/{topic}-dead", "--until-caught-up", "--kafka-config", str(settings)),
    ]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_password_opens_the_stream_and_is_nowhere_told(broker: Broker, tmp_path: Path) -> None:
    """SCRAM over TLS from message to result; not in the output, the process list, or any file of the data set."""
    topic = broker.create_topic("secret-frames", 2)
    broker.produce(topic, *map(picture, range(5)), b"no picture")
    out = tmp_path / "out"
    settings = write_settings(tmp_path / "client.properties", broker)
    run = annotate(broker, topic, out, settings)
    listed = Path(f"/proc/{run.pid}/cmdline").read_text()
    said, _ = run.communicate(timeout=ENDLESS)
    assert run.returncode == 0, said
    assert "6 items: " in said
    assert Dataset(out).scan("images").collect().height == 5
    written = [path.read_bytes() for path in out.rglob("*") if path.is_file()]
    assert len(written) > 10
    for text in (said.encode(), listed.encode(), *written):
        assert broker.password.encode() not in text


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"sasl_password": "wrong-but-secret"}, "password"),
        ({"ssl_ca_location": "/etc/ssl/certs/ca-certificates.crt"}, "certificate"),
        ({"security_protocol": "SASL_PLAINTEXT"}, "SASL_SSL"),
        ({"sasl_mechanism": "SCRAM-SHA-256"}, "SCRAM-SHA-256"),
    ],
)
def test_a_wrong_setting_is_told_apart(more: dict[str, str], why: str, broker: Broker, tmp_path: Path) -> None:
    """In one line, with what to do, without the password, and before anything is written."""
    run = annotate(broker, "secret-frames", tmp_path / "out", write_settings(tmp_path / "client", broker, **more))
    said, _ = run.communicate(timeout=ENDLESS)
    assert run.returncode in (1, 2)
    assert why in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()
    for password in (broker.password, "wrong-but-secret"):
        assert password not in said


def test_an_address_with_a_password_is_refused_unread() -> None:
    """It would stand in lists of processes; the message does not repeat it."""
    with pytest.raises(Exception, match="do not belong into an address") as raised:
        Address.parse("kafka://alice:s3cret@host/frames", "--input")
    assert "s3cret" not in str(raised.value)
