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
numpy out); the exports (`coco`, `jsonl`, `yolo`, `voc`, `cvat`, `label_studio`, `csv_tables`, `film`, with `names`,
`folders`, `copies`, `splits`, `drawing`); and `truth` with `pairing`, for evaluation.

Label files are cleaned in another order:

readers   label files -> raw rows, one module a format
staging   raw rows in parts on disk, by picture; `roster` (who is who), `resolve` (names -> files)
look      files -> size, content, `fingerprint`; `likeness` and `near` find what shows the same
tidy      a part -> tables: `labels` (with `vocabularies`, `codes`, `words`, `spelling`), `conventions`, `boxes`,
          `doubles`, `outliers`, each returning what it `judged`; `second_opinion` where suspects are asked for
ledger    undo, over `chains` of changes; `decisions` of people, in `review_files`; both by `edits` of tables

Nothing is imported here, so that `transforms.models` loads no Beam.
"""
