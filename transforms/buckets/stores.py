"""The store behind a bucket: one a process, with the cloud's usual credentials.

AWS: the whole chain of botocore (environment, profiles, single sign-on, web identity, containers, instances), looked up
when a request needs it. Google and Azure: the client library's own chain. A store is never put into a pipeline graph,
because it would carry its secrets there; and no process may fork once it has used one, because the child would hang.
"""

import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from schemas.errors import RunError, UsageError
from transforms.buckets.names import Bucket

PATIENCE_S = int(os.environ.get("LABELSTREAM_STORE_PATIENCE", "120"))
"""How long a store may be away, throttle or fail before that is an error, in seconds."""

FIRST_ANSWER_S = 5
"""How long a run waits at its start for a store that cannot be reached at all."""

_CLIENT = {
    "connect_timeout": timedelta(seconds=5),
    "read_timeout": timedelta(seconds=15),  # an answer that stops coming is asked for again
    "timeout": timedelta(seconds=600),  # one that drips for ever is given up
    "pool_idle_timeout": timedelta(seconds=20),
}

_stores: dict[tuple[Bucket, int], ObjectStore] = {}
_lock = threading.Lock()
_is_used = _is_forked = False


def store_of(bucket: Bucket, patience_s: int = PATIENCE_S) -> ObjectStore:
    """Return the process's store for a bucket; nothing is asked of it yet. Raises UsageError, RunError."""
    if _is_forked:
        raise RunError("this process was forked from one that used an object store: start it afresh (spawn)")
    global _is_used
    with _lock:
        _is_used = True
        if (bucket, patience_s) not in _stores:
            _stores[bucket, patience_s] = _made(bucket, patience_s)
        return _stores[bucket, patience_s]


def forget_stores() -> None:
    """Let go of all stores, so that settings of the environment are read anew."""
    with _lock:
        _stores.clear()
    s3_client.cache_clear()


def _mark_forked() -> None:
    global _is_forked
    _is_forked = _is_forked or _is_used


os.register_at_fork(after_in_child=_mark_forked)


def _made(bucket: Bucket, patience_s: int) -> ObjectStore:
    retry: Any = {
        "max_retries": 10_000,
        "retry_timeout": timedelta(seconds=patience_s),
        "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
    }
    try:
        if bucket.scheme == "s3":
            return _s3(bucket.name, retry)
        if bucket.scheme == "gs":
            _require_address(os.environ.get("GOOGLE_BASE_URL", ""))
            plain = os.environ.get("GOOGLE_BASE_URL", "") + os.environ.get("GOOGLE_SERVICE_ACCOUNT_KEY", "")
            return GCSStore(bucket.name, client_options=_client("http://" in plain), retry_config=retry)
        endpoint = os.environ.get("AZURE_ENDPOINT") or os.environ.get("AZURE_STORAGE_ENDPOINT") or ""
        _require_address(endpoint)
        return AzureStore(bucket.name, client_options=_client(endpoint.startswith("http://")), retry_config=retry)
    except (BaseError, ValueError, TypeError) as error:
        reason = str(error).split("\n", 1)[0][:300]
        raise UsageError(f"{bucket} cannot be opened: {reason}. Check the environment's settings for it") from None


def _client(allow_http: bool) -> Any:
    return {**_CLIENT, "allow_http": allow_http}


@dataclass(frozen=True)
class S3Settings:
    """Where S3 is for this user, and as whom.

    `is_virtual` has the bucket in the host's name; `is_open` signs nothing, for a bucket that is open to all.
    """

    session: Any
    endpoint: str
    region: str
    is_virtual: bool
    is_open: bool


def s3_settings() -> S3Settings:
    """Return what the AWS command line would find: environment first, then the profile. Raises UsageError."""
    import botocore.exceptions
    import botocore.session

    session = botocore.session.Session()
    try:
        profile = session.get_scoped_config()
    except botocore.exceptions.BotoCoreError as error:
        raise UsageError(f"the AWS configuration cannot be used: {error}") from None
    services = session.full_config.get("services", {}).get(profile.get("services", ""), {})
    told = {**profile, **_section(services, "s3")}
    env = os.environ
    style = _section(profile, "s3").get("addressing_style", "")
    return S3Settings(
        session,
        env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or told.get("endpoint_url") or "",
        env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or profile.get("region") or "us-east-1",
        env.get("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true" if style == "virtual" else "").lower() == "true",
        env.get("AWS_SKIP_SIGNATURE", "").lower() == "true",
    )


@cache
def s3_client() -> Any:
    """Return botocore's client, for what the other library cannot ask. Raises UsageError, and what botocore raises."""
    from botocore import UNSIGNED
    from botocore.config import Config

    found = s3_settings()
    config = Config(
        signature_version=UNSIGNED if found.is_open else None,
        s3={"addressing_style": "virtual" if found.is_virtual else "path"},
        retries={"mode": "standard", "total_max_attempts": 8},  # with pauses of up to 20 s
        connect_timeout=5,
        read_timeout=15,
    )
    return found.session.create_client(
        "s3", region_name=found.region, endpoint_url=found.endpoint or None, config=config
    )


def _s3(name: str, retry: Any) -> ObjectStore:
    found = s3_settings()
    _require_address(found.endpoint)
    more: dict[str, Any] = {"endpoint": found.endpoint} if found.endpoint else {}
    if found.is_open:
        more["skip_signature"] = True
    else:
        more["credential_provider"] = _Credentials(found.session)
    return S3Store(
        name,
        region=found.region,
        virtual_hosted_style_request=found.is_virtual,
        client_options=_client(found.endpoint.startswith("http://")),
        retry_config=retry,
        **more,
    )


def _require_address(endpoint: str) -> None:
    if endpoint and not re.match(r"https?://[^/\s]", endpoint):
        raise UsageError(f"the endpoint {endpoint!r} is no http:// or https:// address")


def _section(told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = told.get(name, {})
    return found if isinstance(found, Mapping) else {}


class _Credentials:
    """What signs a request, as botocore's chain finds it; asked again before it expires."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __call__(self) -> Any:
        from botocore.exceptions import BotoCoreError

        try:
            found = self._session.get_credentials()
        except BotoCoreError as error:
            raise PermissionError(f"no credentials: {error}") from None
        if found is None:
            raise PermissionError("no credentials were found: set them in the environment or in a profile")
        frozen = found.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            # botocore renews those that expire whenever it is asked
            "expires_at": datetime.now(UTC) + timedelta(minutes=5),
        }

    def __reduce__(self) -> Any:
        raise TypeError("credentials are not pickled")
