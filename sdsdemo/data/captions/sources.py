"""Images with captions, to fine-tune on: a folder, COCO's layout, or a stream from the Hub. Knows no model, no batch.

folder:PATH              images anywhere below PATH, and metadata.csv or metadata.jsonl beside them or above, not both:
                         the column file_name, relative to that file or absolute, and caption, text or captions (also a
                         list, in .csv as JSON or Python writes it); .csv with , ; | or tabs between its cells
coco:PATH                captions_train2017.json in PATH or PATH/annotations, images in PATH/train2017 or
                         PATH/images/train2017; or another captions_NAME.json whose folder NAME is there, which is said
hub:ORG/NAME[@SPLIT]     a data set of the Hub, or a folder that `datasets` can read, as a stream; SPLIT is train

Items come in an endless order: for a folder, one permutation per epoch, from (seed, epoch); for a stream, its own order
again and again. Step k takes the first `size` good items from place k x size on, so a bad one costs no place: the next
takes it, and may be met again in the step after. What a row lacks is noticed when it is read, a broken image when it is
drawn; both are counted and named, and more than 5 % of the rows is a `UserError`. Only names and captions are kept.
"""

from __future__ import annotations

from sdsdemo.data.captions.folders import Listed
from sdsdemo.data.captions.items import WRITE_SO, BadRows, Captioned, Captions
from sdsdemo.data.captions.stream import Streamed
from sdsdemo.data.captions.tables import coco_found, folder_found
from sdsdemo.errors import UserError
from sdsdemo.settings import expanded

__all__ = ["BadRows", "Captioned", "Captions", "read_captions"]
CAPTION_COLUMNS = ("caption", "text", "captions")
"""Caption columns tried when none is named."""


def read_captions(
    source: str, *, image_column: str = "image", caption_column: str | None = None, held_out: int = 0
) -> Captions:
    """The images and captions of a source, as the module's first lines say; image_column is for the Hub only.

    held_out: how many items `draw` leaves out: the last in the order of their names' hashes; of a stream, the first.
    Raises `UserError` for what is missing or cannot be read, and where more than 5 % of the rows are bad.
    """
    if held_out < 0:
        raise ValueError(f"held_out must be 0 or more; it was {held_out}")
    kind, _, rest = source.partition(":")
    columns = (caption_column,) if caption_column else CAPTION_COLUMNS
    if not rest or kind not in ("folder", "coco", "hub"):
        raise UserError(WRITE_SO)
    if kind == "hub":
        return Streamed(rest, image_column, columns, held_out)
    root = expanded(rest)
    if not root.is_dir():
        raise UserError(f"There is no folder '{root.name}': check the path.")
    name = f"{kind}:{root.resolve().name}"
    found = folder_found(root, columns) if kind == "folder" else coco_found(root)
    return Listed(kind, name, root, found, held_out)
