"""What an object store answers, as an `OSError` in plain words: errno says of what kind, `strerror` what to do."""

import errno
import re
from http import HTTPStatus

from obstore import exceptions as told

from schemas.errors import RunError
from transforms.buckets.names import SCHEMES, Bucket

_CODE = re.compile(r"<Code>([A-Za-z0-9]+)</Code>|\"reason\":\s*\"(\w+)\"")
_ANSWER = "Server returned non-2xx status code: "
"""What the client library says before a status and the store's own words."""

_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"})
_UNKNOWN = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthenticationFailed", "XAdminUserNotFound"}
)
_SKEWED = frozenset({"RequestTimeTooSkewed"})
_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound", "InvalidBucketName"})
_FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "InsufficientCapacity"})


class Away(RunError):
    """The store, the bucket or the credentials are the trouble, not one object: nothing can be done until it is mended.

    `may_pass` says that the same request may be answered in a while; whether it was carried out is not known then.
    `is_answer` says that the store can be reached.
    """

    def __init__(self, message: str, *, may_pass: bool = False, is_answer: bool = True) -> None:
        super().__init__(message)
        self.may_pass, self.is_answer = may_pass, is_answer


def fault(error: Exception, uri: str, bucket: Bucket, doing: str) -> OSError | Away:
    """Return the error to raise for what the client library raised while `doing` something ("read", "list", "write").

    An OSError is about one object: ENOENT, EACCES, EEXIST, ESTALE (it is another by now), EINVAL (its name).
    """
    text = re.sub(r"\w+://[^\s,]+", "", str(error))  # an address has names in it, which tell nothing
    code = next((a or b for a, b in _CODE.findall(_answer(error))), "")
    status = status_of(error)
    who = f"{SCHEMES[bucket.scheme]} for {bucket}"
    if code in _NO_BUCKET:
        return Away(f"there is no bucket {bucket} at this store: check its name, and the endpoint")
    if code in _EXPIRED:
        return Away(f"the credentials to {doing} {bucket} have expired: renew them, and run again")
    if code in _SKEWED:
        return Away(f"{who} refuses requests because this machine's clock is wrong: set the time")
    if code in _UNKNOWN or status == HTTPStatus.UNAUTHORIZED:
        return Away(f"{who} does not know these credentials ({code or status}): check the keys or the profile")
    if code in _FULL or status == 507:
        return Away(f"cannot {doing} {uri}: the store is full ({code or status})")
    if isinstance(error, told.PermissionDeniedError) or status == 403:
        reason = f"no permission to {doing} it: give these credentials the right to {doing} {bucket}"
        return OSError(errno.EACCES, reason, uri)
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "there is no such object", uri)
    if isinstance(error, told.AlreadyExistsError):
        return FileExistsError(errno.EEXIST, "an object of this name is there", uri)
    if isinstance(error, told.PreconditionError):
        return OSError(errno.ESTALE, "it is another object by now", uri)
    if isinstance(error, told.InvalidPathError | ValueError):
        return OSError(errno.EINVAL, "no object of such a name can be addressed", uri)
    may_pass = status > 0 or not ("builder error" in text or _lacks_credentials(text))
    return Away(f"cannot {doing} {uri}: {_short(text, status)}", may_pass=may_pass, is_answer=status > 0)


def status_of(error: Exception) -> int:
    """Return the HTTP status that the store answered, 0 where it did not answer."""
    status = _answer(error)[:3]
    return int(status) if status.isdecimal() else 0


def _answer(error: Exception) -> str:
    """Return the status and the words of the store's answer; the name of an object, before them, can feign neither."""
    _, is_answer, answer = str(error).partition("\n\nDebug source")[0].rpartition(_ANSWER)
    return answer if is_answer else ""


def _lacks_credentials(text: str) -> bool:
    return "credential" in text.lower() or "169.254.169.254" in text


def _short(text: str, status: int) -> str:
    """Return what is worth knowing of the client library's words; they tell no secrets, but much of its inner life."""
    waited = re.search(r"after (\d+) retries?", text)
    tried = f", {int(waited[1]) + 1} times" if waited and waited[1] != "0" else ""
    if status:
        return f"the store answers {status}{tried}"
    if _lacks_credentials(text):
        return "no credentials were found: set them in the environment or in a profile"
    if "builder error" in text:
        return "the endpoint is no http:// or https:// address"
    reasons = ("Connection refused", "dns error", "timed out", "connection closed", "connection reset", "certificate")
    reason = next((one for one in reasons if one.lower() in text.lower()), "")
    return f"the store does not answer ({reason.lower() or _first_line(text)}){tried}"


def _first_line(text: str) -> str:
    return text.split("\n", 1)[0][:300]
