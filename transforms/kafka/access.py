"""Who may use Kafka: security settings from a file or the environment. No error text, repr or log shows a password."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.errors import UsageError

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
ENVIRONMENT = "LABELSTREAM_KAFKA_"
CONFIG_VARIABLE = f"{ENVIRONMENT}CONFIG"
_MAX_BYTES = 64 << 10

_FILES = ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location")
_TLS_KEYS = (*_FILES, "ssl.key.password", "ssl.endpoint.identification.algorithm")
_SASL_KEYS = ("sasl.mechanism", "sasl.username", "sasl.password")
_KEYS = ("security.protocol", *_SASL_KEYS, *_TLS_KEYS)
_OTHER_NAMES = {"sasl.mechanisms": "sasl.mechanism"}
"""librdkafka takes both."""

_INSTEAD = {
    "bootstrap.servers": "the servers stand in the address: kafka://host:port/topic",
    "metadata.broker.list": "the servers stand in the address: kafka://host:port/topic",
    "sasl.jaas.config": "write sasl.username and sasl.password",
    "ssl.truststore.location": "write ssl.ca.location, a file in PEM form",
    "ssl.keystore.location": "write ssl.certificate.location and ssl.key.location, files in PEM form",
    "enable.ssl.certificate.verification": "a certificate is always verified; name its authority in ssl.ca.location",
}
"""Settings of other clients that people bring along, and what they are here."""


@dataclass(frozen=True)
class Access:
    """Security settings that were checked. `ca`, `certificate`, `key` are paths of PEM files, "" where not given."""

    protocol: str = "PLAINTEXT"
    mechanism: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    ca: str = ""
    certificate: str = ""
    key: str = ""
    key_password: str = field(default="", repr=False)
    check_host: bool = True

    @property
    def tls(self) -> bool:
        return self.protocol in ("SSL", "SASL_SSL")

    @property
    def sasl(self) -> bool:
        return self.protocol.startswith("SASL_")

    def context(self) -> ssl.SSLContext:
        """Return the TLS settings. Raises UsageError if a file is not what it should be."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = self.check_host
        if not self.ca:
            context.load_default_certs()
        else:
            try:
                folder = Path(self.ca).is_dir()
                context.load_verify_locations(**{"capath" if folder else "cafile": self.ca})
            except (OSError, ValueError) as error:
                raise UsageError(_not_pem("ssl.ca.location", self.ca, error)) from None
        if self.certificate:
            try:
                # Without a password given OpenSSL would ask on the terminal.
                context.load_cert_chain(self.certificate, self.key or None, password=lambda: self.key_password)
            except (OSError, ValueError) as error:
                named = f"{self.certificate} and {self.key}" if self.key else self.certificate
                raise UsageError(_not_pem("ssl.certificate.location, ssl.key.location", named, error)) from None
        return context

    def options(self) -> dict[str, Any]:
        """Return kafka-python's security settings."""
        options: dict[str, Any] = {"security_protocol": self.protocol}
        if self.tls:
            options["ssl_context"] = self.context()
        if self.sasl:
            options["sasl_mechanism"] = self.mechanism
            options["sasl_plain_username"] = self.username
            options["sasl_plain_password"] = self.password
        return options


def read_access(path: str | None, environment: Mapping[str, str] = os.environ) -> Access:
    """Read the settings of the file and, before it, of the environment. Raises UsageError.

    `path` wins over LABELSTREAM_KAFKA_CONFIG; LABELSTREAM_KAFKA_SASL_PASSWORD and its like win over the file.
    """
    file = path or environment.get(CONFIG_VARIABLE, "")
    found = _parse(_read(file), file) if file else {}
    # Unknown names are let pass here: Kubernetes sets LABELSTREAM_KAFKA_PORT for a service of that name.
    variables = {key: f"{ENVIRONMENT}{key.upper().replace('.', '_')}" for key in _KEYS}
    found |= {key: environment[name] for key, name in variables.items() if environment.get(name)}
    access = _judge(found)
    if access.tls:
        access.context()
    return access


def _read(file: str) -> str:
    try:
        with Path(file).open("rb") as source:
            data = source.read(_MAX_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"the Kafka settings cannot be read: {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"the Kafka settings must be UTF-8 text: {file}") from None
    if len(data) > _MAX_BYTES:
        raise UsageError(f"the Kafka settings must be at most {_MAX_BYTES >> 10} KiB, lines of name=value: {file}")
    return text


def _parse(text: str, file: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith(("#", "!")):
            continue
        key, equals, value = (part.strip() for part in stripped.partition("="))
        where = f"{file}, line {number}"
        if not equals:
            # The line may be a password that lost its name.
            raise UsageError(f"{where}: expected name=value, as in security.protocol=SASL_SSL")
        key = _OTHER_NAMES.get(key, key)
        if key not in _KEYS:
            instead = _INSTEAD.get(key, f"known are {', '.join(_KEYS)}")
            raise UsageError(f"{where}: the setting {key[:80]!r} is not known; {instead}")
        if key in found:
            raise UsageError(f"{where}: the setting {key!r} is given twice")
        found[key] = value
    return found


def _judge(found: Mapping[str, str]) -> Access:
    protocol = found.get("security.protocol", "PLAINTEXT").upper()
    if protocol not in PROTOCOLS:
        raise UsageError(f"security.protocol must be one of {', '.join(PROTOCOLS)}, not {_shown(protocol)}")
    for keys, fits, instead in (
        (_SASL_KEYS, "SASL" in protocol, "SASL_SSL"),
        (_TLS_KEYS, "SSL" in protocol, "SASL_SSL" if "SASL" in protocol else "SSL"),
    ):
        useless = [key for key in keys if found.get(key)]
        if useless and not fits:
            raise UsageError(
                f"{useless[0]} is set, but security.protocol is {protocol}, which does not use it; "
                f"set security.protocol={instead}, or take {useless[0]} out"
            )
    mechanism = found.get("sasl.mechanism", "").upper()
    if "SASL" in protocol:
        for key in _SASL_KEYS:
            if not found.get(key):
                raise UsageError(f"security.protocol is {protocol}, so {key} is needed, and it is not set")
        if mechanism not in MECHANISMS:
            raise UsageError(f"sasl.mechanism must be one of {', '.join(MECHANISMS)}, not {_shown(mechanism)}")
    check = found.get("ssl.endpoint.identification.algorithm", "https").lower()
    if check not in ("https", "none", ""):
        raise UsageError(f"ssl.endpoint.identification.algorithm must be https or none, not {_shown(check)}")
    for key in _FILES:
        if found.get(key) and not Path(found[key]).exists():
            raise UsageError(f"{key} names a file that is not there: {found[key]}")
    if found.get("ssl.key.location") and not found.get("ssl.certificate.location"):
        raise UsageError("ssl.key.location is set without ssl.certificate.location; name both")
    ca, certificate, key_file = (found.get(key, "") for key in _FILES)
    return Access(
        protocol,
        mechanism,
        found.get("sasl.username", ""),
        found.get("sasl.password", ""),
        ca,
        certificate,
        key_file,
        found.get("ssl.key.password", ""),
        check == "https",
    )


def _shown(value: str) -> str:
    return repr(value[:40])


def _not_pem(key: str, file: str, error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "not in PEM form"
    return f"{key}: {file} cannot be used: {str(reason).lower().replace('_', ' ')}; expected files in PEM form"
