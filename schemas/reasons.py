"""Why a row is where it is: outcomes of items, and the names of the rules."""

import ast
import inspect
from enum import StrEnum
from functools import cache
from itertools import pairwise


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
    DUPLICATE_NEAR = "duplicate.near"
    """The picture is another one resized, encoded anew, brightened, slightly cropped or mirrored."""
    DUPLICATE_ANNOTATION = "duplicate.annotation"
    """A box of the same picture already stands for this face, or says the same of it."""
    BBOX_CONVENTION = "bbox.convention"
    """The box came in another convention than absolute x, y, width, height."""
    BBOX_CORNERS = "bbox.corners"
    """The box came with its corners swapped, that is with a negative width or height."""
    BBOX_CLIPPED = "bbox.clipped"
    """The box reached over the picture's edge and was cut there."""
    BBOX_DEGENERATE = "bbox.degenerate"
    """After clipping, less than one pixel of the box is left on a side, or a coordinate is not a number."""
    BBOX_OUTSIDE = "bbox.outside"
    """Most of the box lies outside its picture."""
    BBOX_ASPECT = "bbox.aspect"
    """One side of the box is absurdly long against the other."""
    BBOX_OUTLIER = "bbox.outlier"
    """The box is far larger, smaller or more oblong than the others of its label; a person must look."""
    BBOX_COUNT = "bbox.count"
    """The picture has far more boxes of a label than the others; a person must look."""
    BBOX_INSIDE = "bbox.inside"
    """A box must lie inside its picture."""
    BBOX_NORMALISED = "bbox.normalised"
    """cx, cy, w, h must say the same as the box in pixels."""
    LABEL_CANONICAL = "label.canonical"
    """The label was put in canonical form: Unicode, white space, case, separators."""
    LABEL_ALIAS = "label.alias"
    """The label is another name of one of the vocabulary."""
    LABEL_CODE = "label.code"
    """The label is a number or an abbreviation whose meaning the data set declares or proves."""
    LABEL_SPELLING = "label.spelling"
    """The label was a misspelling of exactly one name of the vocabulary."""
    LABEL_NEEDS_REVIEW = "label.needs_review"
    """The label is in no vocabulary, and what it stands for must not be guessed; a person must decide."""
    LABEL_CONFLICT = "label.conflict"
    """The same box, or the same picture, has two labels; a person must decide."""
    LABEL_SUSPECT = "label.suspect"
    """The model sees another label, and this one is probably wrong; a person must look."""
    LABEL_VOCABULARY = "label.vocabulary"
    """A label must be one of the vocabulary's names."""
    LABEL_PROBABILITIES = "label.probabilities"
    """Probabilities must be numbers in 0..1 that sum to 1, and the label the largest of them."""
    LABEL_CONFIDENCE = "label.confidence"
    """A confidence must lie in 0..1; 1 is reserved for what a person confirmed."""
    IMAGE_SIZE = "image.size"
    """Width and height must be positive."""
    IMAGE_DECLARED_SIZE = "image.declared_size"
    """The label file declares another size of the picture than the file has."""
    IMAGE_IDENTITY = "image.identity"
    """`image_id` and `sha256` must be well formed, and ids unique."""
    IMAGE_OUTCOME = "image.outcome"
    """An outcome must be known, and agree with the number of annotations."""
    REFERENCE_NO_IMAGE = "reference.no_image"
    """An annotation must belong to a picture that is there."""
    REFERENCE_NO_ENTRY = "reference.no_entry"
    """A picture is there of which no label file speaks."""
    REFERENCE_UNREADABLE = "reference.unreadable"
    """The annotation's picture is there, but cannot be opened."""
    REFERENCE_DUPLICATE_ID = "reference.duplicate_id"
    """An id of the label file stands for several pictures, annotations or categories."""
    REFERENCE_ZERO_ID = "reference.zero_id"
    """An id of the label file is 0, which evaluation takes for "no match"."""
    REFERENCE_CATEGORY = "reference.category"
    """The annotation's category is not among those that the label file declares."""
    REFERENCE_FRAME = "reference.frame"
    """The video has no frame of this number."""
    MESSAGE_TIMESTAMP = "message.timestamp"
    """A message's time is missing or absurd: that of its record stands in its place."""
    MESSAGE_HEADER = "message.header"
    """A header of a message cannot be read: it is taken as not told."""
    PERSON_DECISION = "person.decision"
    """A person decided: accepted, or gave another label or box."""
    PERSON_REJECTED = "person.rejected"
    """A person rejected the annotation."""
    PERSON_DISAGREEMENT = "person.disagreement"
    """Two people decided differently; a third must."""


REVIEW = frozenset(
    {
        Rule.BBOX_OUTLIER,
        Rule.BBOX_COUNT,
        Rule.LABEL_NEEDS_REVIEW,
        Rule.LABEL_CONFLICT,
        Rule.LABEL_SUSPECT,
        Rule.PERSON_DISAGREEMENT,
    }
)
"""The rules whose rows wait for a person's decision."""

RECORDED = frozenset(
    {
        Rule.IMAGE_DECLARED_SIZE,
        Rule.REFERENCE_NO_ENTRY,
        Rule.REFERENCE_ZERO_ID,
        Rule.REFERENCE_DUPLICATE_ID,
        Rule.MESSAGE_TIMESTAMP,
        Rule.MESSAGE_HEADER,
    }
)
"""The rules that only record what they find in `changes`: nothing was changed, and nothing can be taken back."""


class Duplicates(StrEnum):
    """Which pictures are taken for copies of another."""

    KEEP = "keep"
    """None."""
    EXACT = "exact"
    """Those whose file bytes are equal."""
    NEAR = "near"
    """Also those that show the same: resized, encoded anew, brightened, slightly cropped, mirrored."""


@cache
def meanings() -> dict[Rule, str]:
    """Return what each rule means: the text below its name in this file, which Python itself forgets."""
    [definition] = ast.parse(inspect.getsource(Rule)).body
    return {
        Rule[member.targets[0].id]: text.value.value
        for member, text in pairwise(getattr(definition, "body", []))
        if isinstance(member, ast.Assign)
        and isinstance(member.targets[0], ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
