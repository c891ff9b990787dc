"""How each step works, in flow order.

source    inputs -> references (uri, size, time; never bytes)
decode    bytes -> uint8 RGB (H, W, 3), EXIF applied; clip of a video -> frames
detect    picture -> boxes, five landmarks, scores
align     face -> crop by the classifier's own contract
infer     crops of many pictures -> expression probabilities, and 68 points
clean     overlapping detections, boxes clipped and normalised
validate  Great Expectations suites on every shard
write     Parquet shards

Beside them: `batch` (the record that carries pixels within one stage), `storage` (bytes, listing, exclusive create),
`video`, `video_index`, `sampling` and `webp` (frames), `ahead` (a thread that decodes in advance), `models` (numpy in,
numpy out); the exports (`coco`, `jsonl`, `yolo`, `voc`, `csv_tables`, `film`, with `names`, `folders`, `copies`,
`drawing`); and `truth` with `pairing`, for evaluation. Nothing is imported here, so that `transforms.models` loads no
Beam.
"""
