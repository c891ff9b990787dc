"""Log lines on stderr, as text or JSON, and one clear line for every error."""

import json
import logging
import sys
import time
from collections.abc import Callable, Sequence

from schemas.errors import RunError, UsageError

log = logging.getLogger("labelstream")

# Said by Beam while it is imported, on the root logger, before anybody could have asked for it.
logging.getLogger().addFilter(lambda record: "apitools not found" not in record.getMessage())


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line = {"time": stamp, "level": record.levelname.lower(), "message": record.getMessage()}
        return json.dumps(line | getattr(record, "fields", {}), ensure_ascii=False)


def _is_ours_or_grave(record: logging.LogRecord) -> bool:
    # Great Expectations sets its own level when it is imported, and Beam logs the traceback of a failed bundle as an
    # error: the run's own message says the same in one line.
    if record.name.startswith("apache_beam"):
        return record.levelno >= logging.CRITICAL
    return record.name == log.name or record.levelno >= logging.ERROR


def configure(log_format: str) -> None:
    """Send our log to stderr; libraries are heard only when something is wrong.

    `force` is needed because importing Beam may install a root handler of its own.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else logging.Formatter("%(message)s"))
    handler.addFilter(_is_ours_or_grave)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    log.setLevel(logging.INFO)


def run_command(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    """Run a job's `main` and return its exit code: 2 for misuse, 1 for a run that could not go on."""
    try:
        return main(argv)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone; there is nobody left to tell
        return 1
