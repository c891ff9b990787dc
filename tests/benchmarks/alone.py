"""Run a command and tell what it took: `python alone.py FILE WORD...` runs Python with the words, writes FILE as JSON.

It does so from a process that is small itself, because the kernel counts to a child's peak what its parent had when it
was started. Tells "seconds", "peak_mb" (resident, children included) and "code"; needs the standard library alone.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path


def main(told: Path, words: list[str]) -> None:
    """Run Python with the words; tell."""
    started = time.perf_counter()
    running = subprocess.Popen([sys.executable, *words])
    _, status, used = os.wait4(running.pid, 0)
    running.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    # The kernel counts in KiB, on macOS in bytes.
    peak_mb = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    told.write_text(json.dumps({"seconds": seconds, "peak_mb": peak_mb, "code": running.returncode}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
