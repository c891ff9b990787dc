"""How each step works, in flow order.

source    inputs -> references (uri, size, time; never bytes)
decode    bytes -> uint8 RGB (H, W, 3), EXIF applied
detect    picture -> boxes, five landmarks, scores
align     face -> crop by the classifier's own contract
infer     crops of many pictures -> expression probabilities
clean     overlapping detections, boxes clipped and normalised
validate  Great Expectations suites on every shard
write     Parquet shards

Beside them: `batch` (the record that carries pixels within one stage), `storage` (bytes, listing, exclusive create)
and `models` (numpy in, numpy out). Nothing is imported here, so that `transforms.models` loads no Beam.
"""
