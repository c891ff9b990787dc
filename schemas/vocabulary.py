"""The expression labels: canonical names and their order."""

EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt")
"""Canonical order of FER2013, with contempt as the eighth. Category ids of exports follow it and never change."""

LANDMARKS_5 = ("right_eye", "left_eye", "nose", "mouth_right", "mouth_left")
"""Names of the five landmarks. The subject's right is the image's left."""

SKELETON_5 = ((1, 2), (1, 3), (2, 3), (3, 4), (3, 5), (4, 5))
"""Edges between the five landmarks, 1-based, as COCO wants them."""

MAX_MODEL_CONFIDENCE = 1.0 - 2.0**-24
"""The largest float32 below 1: a confidence of 1.0 is reserved for what a person confirmed."""


def label_order(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return the canonical labels, then the others of `labels` in their order: what has an id keeps it."""
    return tuple(dict.fromkeys((*EXPRESSIONS, *labels)))
