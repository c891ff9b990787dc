"""Why a row is where it is: outcomes of items, and the names of the rules."""

from enum import StrEnum


class Outcome(StrEnum):
    """The one place where an item ends. The first four are rows of `images`, the last is a row of `failures`."""

    LABELLED = "labelled"
    NO_FACE = "no_face"
    DUPLICATE = "duplicate"
    QUARANTINED = "quarantined"
    FAILED = "failed"


class Rule(StrEnum):
    """Every rule that can hold a row back or change it, as `group.rule`."""

    DUPLICATE_EXACT = "duplicate.exact"
    """The file's bytes equal those of another picture."""
    DUPLICATE_ANNOTATION = "duplicate.annotation"
    """A box of the same picture already stands for this face."""
    BBOX_CLIPPED = "bbox.clipped"
    """The box reached over the picture's edge and was cut there."""
    BBOX_DEGENERATE = "bbox.degenerate"
    """After clipping, less than one pixel of the box is left on a side, or a coordinate is not a number."""
    BBOX_INSIDE = "bbox.inside"
    """A box must lie inside its picture."""
    BBOX_NORMALISED = "bbox.normalised"
    """cx, cy, w, h must say the same as the box in pixels."""
    LABEL_VOCABULARY = "label.vocabulary"
    """A label must be one of the vocabulary's names."""
    LABEL_PROBABILITIES = "label.probabilities"
    """Probabilities must be numbers in 0..1 that sum to 1, and the label the largest of them."""
    LABEL_CONFIDENCE = "label.confidence"
    """A model's confidence must lie in 0..1, below 1."""
    IMAGE_SIZE = "image.size"
    """Width and height must be positive."""
    IMAGE_IDENTITY = "image.identity"
    """`image_id` and `sha256` must be there, well formed, and ids unique."""
    IMAGE_OUTCOME = "image.outcome"
    """An outcome must be known, and agree with the number of annotations."""
    REFERENCE_NO_IMAGE = "reference.no_image"
    """An annotation must belong to a picture of its shard."""


class Duplicates(StrEnum):
    """What is done with pictures whose file bytes are equal."""

    EXACT = "exact"
    KEEP = "keep"
