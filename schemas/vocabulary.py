"""The expression labels: canonical names and their order."""

EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt")
"""Canonical order of FER2013, with contempt as the eighth. Category ids of exports follow it and never change."""

LANDMARKS_5 = ("right_eye", "left_eye", "nose", "mouth_right", "mouth_left")
"""Names of the five landmarks. The subject's right is the image's left."""

SKELETON_5 = ((1, 2), (1, 3), (2, 3), (3, 4), (3, 5), (4, 5))
"""Edges between the five landmarks, 1-based, as COCO wants them."""

LANDMARKS_68 = tuple(
    f"{part}_{number}"
    for part, count in (
        ("jaw", 17),  # from the subject's right ear over the chin to the left ear
        ("right_eyebrow", 5),  # brows and the nose's base too: from the subject's right to left
        ("left_eyebrow", 5),
        ("nose_bridge", 4),  # downwards; the last is the tip
        ("nose_base", 5),
        ("right_eye", 6),  # eyes and mouth: around, from the corner at the subject's right over the upper lid or lip
        ("left_eye", 6),
        ("mouth_outer", 12),
        ("mouth_inner", 8),
    )
    for number in range(1, count + 1)
)
"""Names of the 68 landmarks in the order of 300-W. The subject's right is the image's left."""

SKELETON_68 = (
    *(
        (point, point + 1)
        for first, last in ((1, 17), (18, 22), (23, 27), (28, 31), (32, 36), (37, 42), (43, 48), (49, 60), (61, 68))
        for point in range(first, last)
    ),
    (31, 34),  # the nose's tip and the middle of its base
    (42, 37),  # eyes and mouth are closed
    (48, 43),
    (60, 49),
    (68, 61),
)
"""Edges between the 68 landmarks, 1-based, as COCO wants them."""

MAX_MODEL_CONFIDENCE = 1.0 - 2.0**-24
"""The largest float32 below 1: a confidence of 1.0 is reserved for what a person confirmed."""


def label_order(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return the canonical labels, then the others of `labels` in their order: what has an id keeps it."""
    return tuple(dict.fromkeys((*EXPRESSIONS, *labels)))
