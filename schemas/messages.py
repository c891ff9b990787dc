"""The message contract of Kafka topics: what a message may be, and what its headers are called.

In words in schemas/README.md, as JSON Schema in reference-1.json, result-1.json, review-1.json and
decision-1.json.
"""

CONTRACT_VERSION = "1"
"""Changes with every change of what a message means; a message that names another version fails."""

VERSION_HEADER = "labelstream-version"
"""May be left out: then it is the current one."""

CONTENT_TYPE = "content-type"
SOURCE_ID = "source-id"
TIMESTAMP_MS = "timestamp-ms"
FRAME_INDEX = "frame-index"

REFERENCE_TYPE = "application/vnd.labelstream.reference+json"
"""The content type of a small JSON that names a file or an object; plain application/json is taken for it too."""

PICTURE_TYPES = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "bmp": "image/bmp",
    "tiff": "image/tiff",
    "avif": "image/avif",
    "heif": "image/heif",
    "jp2": "image/jp2",
    "pnm": "image/x-portable-anymap",
}
"""The content type of each kind of picture that `transforms.kinds.sniff` tells."""

SEGMENT_TYPES = {"mp4": "video/mp4", "mpeg-ts": "video/mp2t", "matroska": "video/x-matroska", "avi": "video/x-msvideo"}
"""The content type of each kind of video that may be a message: a short segment."""

DEAD_ERROR = "labelstream-error"
DEAD_STEP = "labelstream-step"
DEAD_MESSAGE = "labelstream-message"
DEAD_SOURCE = "labelstream-source"
"""What a dead letter's headers say: the error's name, the step, a text for a person, and topic/partition/offset."""

DEAD_HEADERS = (DEAD_ERROR, DEAD_STEP, DEAD_MESSAGE, DEAD_SOURCE)
