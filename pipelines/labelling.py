"""The models, the configuration and the engine of a run that labels pictures, from its options."""

import argparse
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from pipelines.logs import configure, log
from pipelines.memory import give_back, settle
from pipelines.records import at_hand
from schemas.errors import UsageError
from schemas.vocabulary import label_order
from transforms.places import place

if TYPE_CHECKING:
    from pipelines.configuration import Configuration, ModelChoice
    from pipelines.dataset import Dataset
    from pipelines.epochs import Identity
    from pipelines.flow import Settings
    from pipelines.planning import Plan
    from pipelines.runners import Repeated
    from transforms.models.classifiers import Classifier
    from transforms.models.detectors import Detector

_GIVE_BACK_SECONDS = 10.0
"""How often freed memory is returned to the system, at most: it takes as long as a small epoch."""


def configured(
    options: argparse.Namespace, before: dict[str, Any] | None
) -> tuple["Configuration", dict[str, Any], tuple["Detector", "Classifier"]]:
    """Return the configuration, the models as a manifest tells them, and the models, loaded and checked."""
    from pipelines.configuration import Configuration
    from transforms.models.registry import default_detector, shared_classifier, shared_detector, shared_landmarker
    from transforms.models.runtime import resolve_device
    from transforms.sampling import ALL, KEYFRAMES
    from validation.suites import VERSION

    if options.detector is None:
        options.detector = before["detector"]["name"] if before else default_detector()
        if options.detector != "yunet":
            log.warning(
                "detector %s: %s",
                options.detector,
                "as this data set was begun" if before else "yunet's weights cannot be had here",
            )
    device = resolve_device(options.device)
    options.detector, options.classifier, options.landmarks = map(
        at_hand, (options.detector, options.classifier, options.landmarks)
    )
    detector = shared_detector(
        options.detector, device, detect_size=options.detect_size, threshold=options.detect_threshold
    )
    classifier = shared_classifier(options.classifier, device, tta=options.tta)
    landmarks = _landmarks(options.landmarks)
    if landmarks:
        shared_landmarker(landmarks, device)
    log.info("detector %s, classifier %s, on %s", options.detector, options.classifier, device.name)
    configuration = Configuration(
        detector=_chosen(options.detector),
        classifier=_chosen(options.classifier),
        landmarks=_chosen(landmarks) if landmarks else None,
        frames=KEYFRAMES if options.keyframes else str(options.fps or ALL),
        tta=options.tta,
        detect_size=options.detect_size,
        detect_threshold=options.detect_threshold,
        min_face=options.min_face,
        max_pixels=options.max_pixels,
        max_bytes=options.max_bytes,
        duplicates=options.duplicates,
        crops=options.crops,
        vocabulary=label_order(tuple(classifier.labels)),
        expectations=VERSION,
    )
    models: dict[str, Any] = {
        "detector": {"name": configuration.detector.name, "sha256": detector.sha256},
        "classifier": {
            "name": configuration.classifier.name,
            "sha256": classifier.sha256,
            "labels": list(classifier.labels),
        },
    }
    if configuration.landmarks:
        models["landmarks"] = {"name": configuration.landmarks.name, "sha256": configuration.landmarks.sha256}
    return configuration, models, (detector, classifier)


def _landmarks(option: str) -> str | None:
    """Return the name or path of the landmarks' record, None for the detector's own five."""
    if option not in ("5", "68") and not option.endswith(".toml"):
        raise UsageError(f"--landmarks {option}: expected 5, 68 or the path of a .toml record")
    return {"5": None, "68": "landmarks68"}.get(option, option)


def _chosen(name_or_path: str) -> "ModelChoice":
    from pipelines.configuration import ModelChoice
    from transforms.models.record import load_record

    record = load_record(name_or_path)
    return ModelChoice(record.name, record.sha256, record.contract_sha256)


def runner(
    options: argparse.Namespace,
    beam_arguments: list[str],
    dataset: "Dataset",
    configuration: "Configuration",
    identity: "Identity",
) -> Callable[["Plan"], None]:
    """Return the function that runs one plan. Beam is imported when the first plan needs it."""
    import pandas  # noqa: F401  Beam and Great Expectations would import it at once, and one see half of it

    from pipelines.known import KnownPictures
    from schemas.reasons import Duplicates
    from validation.suites import warm_up

    # Great Expectations takes two seconds to import: beside the first pictures, not after them.
    threading.Thread(target=warm_up, daemon=True).start()

    if configuration.duplicates == Duplicates.NEAR:
        known = KnownPictures(dataset)
        return _Runs(options, beam_arguments, configuration, identity, known.write)
    return _Runs(options, beam_arguments, configuration, identity, None)


class _Runs:
    """Runs plans, one after the other; `known` writes what near copies are looked for among, null if they are not."""

    def __init__(
        self,
        options: argparse.Namespace,
        beam_arguments: list[str],
        configuration: "Configuration",
        identity: "Identity",
        known: Callable[["Plan"], str] | None,
    ) -> None:
        self.options, self.beam_arguments = options, beam_arguments
        self.configuration, self.identity = configuration, identity
        self.known = known
        self.gave_back = time.monotonic()
        self.repeated: Repeated | None = None

    def __call__(self, plan: "Plan") -> None:
        """Run one plan to its end; raise `RunError`."""
        from pipelines.flow import batches, build
        from pipelines.runners import Repeated, pipeline_options, run_pipeline, shares_memory
        from transforms.ready import put_ready

        configure(self.options.log_format)  # importing Beam may have installed a handler of its own
        if time.monotonic() - self.gave_back > _GIVE_BACK_SECONDS:
            give_back()
            self.gave_back = time.monotonic()
        settings = self._settings(self.known(plan) if self.known else None)
        what, planned = f"epoch {plan.epoch}", batches(plan, settings.batch)
        if self.repeated is None:
            engine = pipeline_options(self.options.runner, self.beam_arguments)
            if self.known is not None or not shares_memory(self.options.runner, engine):
                build_it = partial(build, planned=planned, settings=settings)
                run_pipeline(build_it, what, settings.root, self.options.runner, engine)
                return
            self.repeated = Repeated(partial(build, planned=None, settings=settings), settings.root, engine)
            settle()
        put_ready(planned)
        self.repeated.run(what, alone=len(planned) == 1)

    def _settings(self, known: str | None) -> "Settings":
        from pipelines.flow import CPU_BATCHES, GPU_BATCHES, Settings
        from transforms.decode import CPU_ROOM, GPU_ROOM
        from transforms.models.runtime import resolve_device

        on_cpu = resolve_device(self.options.device).name == "cpu"
        return Settings(
            root=str(place(self.options.output)),
            device=self.options.device,
            detector=self.options.detector,
            classifier=self.options.classifier,
            landmarks=_landmarks(self.options.landmarks),
            configuration=self.configuration,
            labels=self.identity.labels,
            batch=CPU_BATCHES if on_cpu else GPU_BATCHES,
            room=CPU_ROOM if on_cpu else GPU_ROOM,
            known=known,
            metadata={
                "version": self.identity.version,
                "configuration_hash": self.identity.configuration_hash,
                "models": self.identity.models,
                "labels": list(self.configuration.vocabulary),
                "coordinates": "absolute pixels after EXIF orientation, origin top-left; cx, cy, w, h in 0..1",
            },
        )
