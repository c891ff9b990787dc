"""Security settings: where they come from, what each mistake is told, and that no password is shown."""

import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import UsageError
from tests.extras import program
from transforms.kafka.access import Access, read_access

SECRET = "hush-7c1e"
SCRAM = f"security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nsasl.username=alice\nsasl.password={SECRET}\n"

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a settings file and return its path."""

    def write(text: str) -> str:
        (tmp_path / "client.properties").write_text(text, encoding="utf-8")
        return str(tmp_path / "client.properties")

    return write


def refused(path: str | None, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        read_access(path, environment or {})
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_without_settings_a_broker_is_used_as_it_is() -> None:
    """No TLS, no user: what a broker on this machine wants."""
    assert read_access(None, {}) == Access()
    assert Access().options() == {"security_protocol": "PLAINTEXT"}


def test_a_file_of_properties_is_read(write: Write) -> None:
    """Comments, blank lines, spaces, values with equals signs, and librdkafka's other name of a setting."""
    text = "# ours\n\n security.protocol = sasl_ssl \nsasl.mechanisms=plain\nsasl.username=a=b\nsasl.password= x=#y= \n"
    access = read_access(write(text), {})
    assert (access.protocol, access.mechanism, access.username, access.password) == (
        "SASL_SSL",
        "PLAIN",
        "a=b",
        "x=#y=",
    )
    assert access.check_host
    options = access.options()
    assert options["sasl_plain_password"] == "x=#y="
    assert options["ssl_context"].check_hostname


def test_the_environment_wins_over_the_file_and_names_it(write: Write) -> None:
    """A path that is given wins over the one of the environment."""
    file = write(SCRAM)
    environment = {"LABELSTREAM_KAFKA_CONFIG": file, "LABELSTREAM_KAFKA_SASL_USERNAME": "bob"}
    access = read_access(None, environment)
    assert (access.username, access.password) == ("bob", SECRET)
    assert "absent" in refused("absent", environment)


def test_the_environment_alone_is_enough() -> None:
    """Names that Kubernetes sets for a service called labelstream-kafka are not ours."""
    environment = {
        "LABELSTREAM_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "LABELSTREAM_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
        "LABELSTREAM_KAFKA_SASL_USERNAME": "alice",
        "LABELSTREAM_KAFKA_SASL_PASSWORD": SECRET,
        "LABELSTREAM_KAFKA_PORT": "tcp://10.0.0.1:9092",
    }
    assert read_access(None, environment) == Access("SASL_PLAINTEXT", "SCRAM-SHA-256", "alice", SECRET)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"sasl.passwd={SECRET}", "'sasl.passwd' is not known"),
        (f"sasl.jaas.config={SECRET}", "sasl.username and sasl.password"),
        ("bootstrap.servers=localhost:9092", "the address"),
        ("enable.ssl.certificate.verification=false", "always verified"),
        (SECRET, "line 1: expected name=value"),
        (SCRAM + f"sasl.password={SECRET}2", "line 5: the setting 'sasl.password' is given twice"),
        ("security.protocol=TLS", "one of PLAINTEXT, SSL"),
        ("security.protocol=SASL_SSL", "sasl.mechanism is needed"),
        (SCRAM.replace(f"={SECRET}", "="), "sasl.password is needed"),
        (SCRAM.replace("SCRAM-SHA-512", "GSSAPI"), "one of PLAIN, SCRAM"),
        (SCRAM.replace("SASL_SSL", "SSL"), "set security.protocol=SASL_SSL"),
        (f"sasl.password={SECRET}", "set security.protocol=SASL_SSL"),
        ("ssl.ca.location=ca.pem", "set security.protocol=SSL"),
        ("security.protocol=SSL\nssl.ca.location=absent.pem", "not there: absent.pem"),
        (f"security.protocol=SSL\nssl.key.location={__file__}", "without ssl.certificate.location"),
        (f"security.protocol=SSL\nssl.ca.location={__file__}", "PEM form"),
        (f"security.protocol=SSL\nssl.certificate.location={__file__}", "PEM form"),
        ("security.protocol=SSL\nssl.endpoint.identification.algorithm=maybe", "https or none"),
        ("#" * 70_000, "at most 64 KiB"),
    ],
)
def test_a_wrong_setting_is_named_and_its_value_is_not(write: Write, text: str, told: str) -> None:
    """Each mistake has its own sentence."""
    assert told in refused(write(text))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """And so is a folder."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in refused(str(tmp_path / "binary"))
    assert "cannot be read" in refused(str(tmp_path))


@given(st.text(max_size=200))
def test_any_text_is_settings_or_a_usage_error(text: str) -> None:
    """No other error comes of what stands in a file."""
    variables = {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": text, "SASL_USERNAME": text, "SASL_PASSWORD": text}
    try:
        read_access(None, {f"LABELSTREAM_KAFKA_{name}": value for name, value in variables.items()})
    except UsageError as error:
        assert str(error)


def test_a_key_with_a_password_is_opened_and_one_without_never_asks(tmp_path: Path, write: Write) -> None:
    """OpenSSL would ask on the terminal, and a run without one would hang."""
    make = [program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-passout", f"pass:{SECRET}", "-subj", "/CN=me"]
    subprocess.run([*make, "-keyout", "key.pem", "-out", "me.pem"], cwd=tmp_path, check=True, capture_output=True)
    text = (
        f"security.protocol=SSL\nssl.certificate.location={tmp_path}/me.pem\nssl.key.location={tmp_path}/key.pem\n"
        "ssl.endpoint.identification.algorithm=none\n"
    )
    assert not read_access(write(f"{text}ssl.key.password={SECRET}\n"), {}).context().check_hostname
    assert "ssl.key.location" in refused(write(text))
    assert "ssl.key.location" in refused(write(f"{text}ssl.key.password={SECRET}2\n"))


def test_a_password_is_in_no_repr() -> None:
    """Nor in what an f-string shows; settings travel to workers all the same."""
    access = Access("SASL_SSL", "PLAIN", "alice", SECRET, key_password=SECRET)
    assert SECRET not in f"{access} {access!r} {[access]}"
    assert pickle.loads(pickle.dumps(access)) == access
