"""Label Studio: tasks with our labels as pre-annotations, and the labelling interface that they are for.

    tasks.json          one task a picture: its address, and one prediction with a region for each label
    label_config.xml    the interface: rectangles, and choices where some labels are of whole pictures
    images/NAME.jpg     the pictures, only where they were asked for

Boxes are percent of the picture; a label of the whole picture is a choice. A prediction's score is the mean confidence
of its regions, where all of them have one. What waits for a person's decision is not in it. The picture's size need not
be known where its boxes are known as shares of it.

By default a picture's address is that of Label Studio's own server for local files. It serves what lies below
LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT, which is then this folder, if LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED is true.
"""

import colorsys
from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from transforms.copies import Copies
from transforms.encoding import (
    Parts,
    Written,
    box_shares,
    chunks,
    drawable,
    joined,
    json_of,
    labels_of,
    named,
    shown,
    xml_of,
)
from transforms.folders import Folder
from transforms.names import file_names

TASKS, CONFIG = "tasks.json", "label_config.xml"

IMAGES = "/data/local-files/?d=images/"
"""Where Label Studio finds the pictures of an export that is its document root."""

_IN_ADDRESS = {character: f"%{ord(character):02X}" for character in '%#&+?" '}
_BUCKETS = ("s3://", "gs://", "azure-blob://")
"""Addresses that are taken as they are."""
_GOLDEN = 0.618034  # of the circle of hues: the next colour is far from all before it


def write_label_studio(
    parts: Parts,
    folder: Folder,
    *,
    categories: Sequence[str],
    roots: Mapping[int, str],
    address: str = IMAGES,
    copies: Copies | None = None,
) -> Written:
    """Write tasks, the interface and, with `copies`, pictures; hold one part in memory at a time.

    `address` is put in front of each picture's name; the rest is as for `write_coco`. Raises RunError.
    """
    names = file_names(parts, roots)
    images = annotations = left_out = unnamed = 0
    has_choices = False
    with folder.create(TASKS) as out:
        out.write(b"[")
        for part in parts:
            pictures = names.of(drawable(shown(part.images), part))
            pictures = pictures.with_columns(path="images/" + pl.col("picture"))
            found = labels_of(
                part, pictures.select("image_id", "outcome", "width", "height"), categories, "Label Studio"
            )
            rows = named(found)
            regions = _one_choice(rows).select("image_id", "confidence", "model", "origin", region=_region())
            predictions = regions.group_by("image_id", maintain_order=True).agg(prediction=_prediction())
            for chunk in chunks(pictures.join(predictions, on="image_id", how="left", maintain_order="left")):
                out.write(b",\n" if images else b"\n")
                out.write(joined(chunk.select(_task(address)).to_series(), ",\n"))
                images += chunk.height
            if copies:
                copies.put(pictures)
            has_choices |= rows.select(_is_whole().any()).item()
            annotations += rows.height
            left_out += shown(part.images).height - pictures.height
            unnamed += found.height - rows.height
        out.write(b"]\n")
    folder.write(CONFIG, _config(categories, has_choices=has_choices).encode())
    return Written(images, annotations, left_out, unnamed)


def _is_whole() -> pl.Expr:
    return pl.all_horizontal(pl.col("cx", "bbox_x").is_null())


def _one_choice(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the annotations with their label as a list; those of a whole picture are one, with all its labels."""
    marked = rows.with_columns(is_whole=_is_whole())
    boxed = marked.filter(~pl.col("is_whole")).with_columns(pl.concat_list("label"))
    others = pl.exclude("image_id", "label", "confidence").first()
    chosen = marked.filter("is_whole").group_by("image_id").agg("label", pl.col("confidence").mean(), others)
    return pl.concat([boxed, chosen.select(boxed.columns)])


def _region() -> pl.Expr:
    edges = {name: (edge * 100).round(6) for name, edge in box_shares().items()}
    label = pl.col("label")
    box = pl.struct(
        x=edges["left"],
        y=edges["top"],
        width=(edges["right"] - edges["left"]).round(6),
        height=(edges["bottom"] - edges["top"]).round(6),
        rotation=pl.lit(0),
        rectanglelabels=label,
    )
    about = {"id": pl.col("annotation_id"), "to_name": pl.lit("image")}
    kinds = [
        json_of(**about, type=pl.lit(kind), from_name=pl.lit(name), value=value)
        for kind, name, value in (("choices", "choice", pl.struct(choices=label)), ("rectanglelabels", "label", box))
    ]
    size = pl.format(',"original_width":{},"original_height":{},"image_rotation":0', "width", "height")
    more = pl.concat_str(size, _score(pl.col("confidence")), ignore_nulls=True)
    return pl.when("is_whole").then(kinds[0]).otherwise(kinds[1]).str.strip_suffix("}") + more + "}"


def _score(confidence: pl.Expr) -> pl.Expr:
    return pl.format(',"score":{}', pl.when(confidence.is_between(0, 1)).then(confidence))


def _prediction() -> pl.Expr:
    confidence = pl.col("confidence")
    mean = pl.when(confidence.null_count() == 0).then(confidence.cast(pl.Float64).mean().round(6))
    version = pl.coalesce(pl.col("model").drop_nulls().first(), pl.col("origin").first(), pl.lit("labelstream"))
    return pl.concat_str(
        json_of(model_version=version).str.strip_suffix("}"),
        _score(mean),
        pl.lit(',"result":['),
        pl.col("region").str.join(","),
        pl.lit("]}"),
        ignore_nulls=True,
    )


def _task(address: str) -> pl.Expr:
    name = pl.col("picture") if address.startswith(_BUCKETS) else pl.col("picture").str.replace_many(_IN_ADDRESS)
    data = json_of(data=pl.struct("image_id", "source_uri", image=address + name)).str.strip_suffix("}")
    return pl.concat_str(data, pl.lit(',"predictions":['), pl.col("prediction").fill_null(""), pl.lit("]}"))


def _config(categories: Sequence[str], *, has_choices: bool) -> str:
    lines = ["<View>", '  <Image name="image" value="$image"/>', '  <RectangleLabels name="label" toName="image">']
    lines += [
        f'    <Label value="{xml_of(name)}" background="{colour}"/>'
        for name, colour in zip(categories, _colours(), strict=False)
    ]
    lines.append("  </RectangleLabels>")
    if has_choices:
        lines.append('  <Choices name="choice" toName="image" choice="multiple">')
        lines += [f'    <Choice value="{xml_of(name)}"/>' for name in categories]
        lines.append("  </Choices>")
    return "\n".join([*lines, "</View>", ""])


def _colours() -> Iterator[str]:
    number = 0
    while True:
        rgb = colorsys.hls_to_rgb(number * _GOLDEN % 1, 0.5, 0.8)
        yield "#" + "".join(f"{round(part * 255):02x}" for part in rgb)
        number += 1
