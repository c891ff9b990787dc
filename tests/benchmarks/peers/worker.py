"""One contestant in an environment of its own: `python worker.py NAME [SETTINGS]`, with settings as a JSON object.

Needs NumPy, OpenCV and the contestant's own packages alone. Speaks JSON lines: says {"ready": versions} once its model
is loaded; then, for each turn, is told {"files": [...]}, answers {"prepared": n}, is told {"go": true}, does the work
and answers {"seconds", "cpu_seconds", "pictures", "faces", "ms", "peak_mb"}. Ends with its input.
"""

import contextlib
import importlib.metadata
import io
import json
import os
import platform
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

PACKAGES = ("fer", "mtcnn", "facenet-pytorch", "tensorflow-cpu", "torch", "opencv-python-headless", "numpy")

Pixels = Any
"""A picture (h, w, 3) uint8; NumPy is not imported before the number of its threads is set."""


@dataclass(frozen=True)
class Contestant:
    """`prepare` makes of a file what `work` takes, before the clock; `work` returns faces, and each picture's ms."""

    work: Callable[[Sequence[Any]], tuple[int, list[float]]]
    prepare: Callable[[Path], Any] = lambda path: path


def one_by_one(faces_of: Callable[[Any], int], threads: int) -> Callable[[Sequence[Any]], tuple[int, list[float]]]:
    """Return the work that calls `faces_of` for each item, in so many threads."""

    def timed(item: Any) -> tuple[int, float]:
        started = time.perf_counter()
        faces = faces_of(item)
        return faces, 1000 * (time.perf_counter() - started)

    def work(items: Sequence[Any]) -> tuple[int, list[float]]:
        with ThreadPoolExecutor(threads) as pool:
            told = list(pool.map(timed, items))
        return sum(faces for faces, _ in told), [ms for _, ms in told]

    return work


def read_bgr(path: Path) -> Pixels:
    """Return the picture as OpenCV reads it."""
    import cv2

    return cv2.imread(str(path))


def read_rgb(path: Path) -> Pixels:
    """Return the picture as most nets want it."""
    import cv2

    return cv2.cvtColor(read_bgr(path), cv2.COLOR_BGR2RGB)


def at_most(picture: Pixels, long_side: int) -> Pixels:
    """Return the picture with a longer side of at most so many pixels."""
    import cv2

    scale = long_side / max(picture.shape)
    return picture if scale >= 1 else cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def fer_haar(threads: int = 1) -> Contestant:
    """Return `fer` with its defaults: OpenCV's Haar cascade, then the quantised mini_XCEPTION."""
    from fer.fer import FER

    model = FER(mtcnn=False)
    return Contestant(one_by_one(lambda path: len(model.detect_emotions(read_bgr(path))), threads))


def mtcnn_package(threads: int = 1, long_side: int | None = None, **options: Any) -> Contestant:
    """Return the `mtcnn` package; with `long_side`, over pictures decoded and brought to it before the clock."""
    from mtcnn import MTCNN

    model = MTCNN()
    return _over(lambda rgb: len(model.detect_faces(rgb, **options)), read_rgb, threads, long_side)


def facenet(threads: int = 1) -> Contestant:
    """Return `facenet-pytorch`'s MTCNN with its defaults."""
    import torch
    from facenet_pytorch import MTCNN

    model = MTCNN(keep_all=True, device=torch.device("cpu"))

    def faces_of(path: Path) -> int:
        boxes, _ = model.detect(read_rgb(path))
        return 0 if boxes is None else len(boxes)

    return Contestant(one_by_one(faces_of, threads))


def opencv(weights: str, threshold: float, nms: float, threads: int = 1, long_side: int | None = None) -> Contestant:
    """Return `cv2.FaceDetectorYN`, one object a thread."""
    import cv2

    own = threading.local()

    def faces_of(path: Path) -> int:
        picture = read_bgr(path)
        if long_side:
            picture = at_most(picture, long_side)
        size = (picture.shape[1], picture.shape[0])
        if not hasattr(own, "detector"):
            own.detector = cv2.FaceDetectorYN.create(weights, "", size, threshold, nms)
        own.detector.setInputSize(size)
        _, faces = own.detector.detect(picture)
        return 0 if faces is None else len(faces)

    return Contestant(one_by_one(faces_of, threads))


def pipeline(*options: str) -> Contestant:
    """Return `pipelines.annotate`, each turn into a fresh data set, from the listing to the exports."""
    from pipelines import annotate

    def work(files: Sequence[Path]) -> tuple[int, list[float]]:
        with tempfile.TemporaryDirectory(prefix="labelstream-bench-") as folder:
            listed, out = Path(folder) / "files.txt", Path(folder) / "out"
            listed.write_text("".join(f"{path}\n" for path in files))
            words = ["--runner=DirectRunner", "--device=cpu", f"--input=@{listed}", f"--output={out}", *options]
            with contextlib.redirect_stdout(io.StringIO()):
                code = annotate.main(words)
            told = json.loads((out / "report" / "summary.json").read_bytes())
        if code or told["items"] != len(files) or told["outcomes"]["failed"]:
            raise SystemExit(f"the pipeline did not label all {len(files)} pictures: exit code {code}, {told}")
        return int(told["annotations"]), []

    return Contestant(work)


def our_mtcnn(threads: int = 1, long_side: int | None = None) -> Contestant:
    """Return our MTCNN alone, as the mtcnn package is measured; with `long_side`, without the second look."""
    from transforms.decode import reduce_to
    from transforms.models.registry import shared_detector
    from transforms.models.runtime import resolve_device
    from transforms.pictures import decode

    model = shared_detector("mtcnn", resolve_device("cpu"), detect_size=640, second_look=long_side is None)
    return _over(
        lambda rgb: len(model.detect([rgb])[0]),
        lambda path: decode(path.read_bytes(), reduce_to=reduce_to(640)).rgb,
        threads,
        long_side,
    )


def _over(
    faces_of: Callable[[Pixels], int], read: Callable[[Path], Pixels], threads: int, long_side: int | None
) -> Contestant:
    """Return a detector over files, or over pictures brought to `long_side` before the clock."""
    if long_side is None:
        return Contestant(one_by_one(lambda path: faces_of(read(path)), threads))
    return Contestant(one_by_one(faces_of, threads), lambda path: at_most(read_rgb(path), long_side))


CONTESTANTS: dict[str, Callable[..., Contestant]] = {
    "fer-haar": fer_haar,
    "mtcnn-package": mtcnn_package,
    "facenet": facenet,
    "opencv": opencv,
    "pipeline": lambda options=(): pipeline(*options),
    "our-mtcnn": our_mtcnn,
}


def limit_threads(threads: int | None) -> None:
    """Give the libraries so many threads each, or leave them their defaults. Call it before they are imported."""
    if threads is not None:
        for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
            os.environ[name] = str(threads)
        import cv2

        cv2.setNumThreads(threads)


def versions() -> dict[str, str]:
    """Return Python's version and those of what is installed of `PACKAGES`."""
    installed = {
        each.metadata["Name"].lower().replace("_", "-"): each.version for each in importlib.metadata.distributions()
    }
    return {"Python": platform.python_version(), **{name: installed[name] for name in PACKAGES if name in installed}}


def peak_mb() -> float:
    """Return this process's peak resident memory in MB.

    Linux's ru_maxrss begins with what the parent had when it started this process, so its status is asked first.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def serve(contestant: Contestant, asked: TextIO, told: TextIO) -> None:
    """Do turns until `asked` ends."""

    def tell(message: dict[str, Any]) -> None:
        told.write(json.dumps(message) + "\n")
        told.flush()

    tell({"ready": versions()})
    for line in asked:
        items = [contestant.prepare(Path(name)) for name in json.loads(line)["files"]]
        tell({"prepared": len(items)})
        asked.readline()
        cpu, started = time.process_time(), time.perf_counter()
        faces, each_ms = contestant.work(items)
        tell(
            {
                "seconds": time.perf_counter() - started,
                "cpu_seconds": time.process_time() - cpu,
                "pictures": len(items),
                "faces": faces,
                "ms": each_ms,
                "peak_mb": peak_mb(),
            }
        )


def main() -> None:
    """Load the contestant; serve."""
    # Libraries print where they like: what they print goes to stderr, and the answers have a file of their own.
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    settings = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    limit_threads(settings.pop("library_threads", None))
    serve(CONTESTANTS[sys.argv[1]](**settings), sys.stdin, told)


if __name__ == "__main__":
    main()
