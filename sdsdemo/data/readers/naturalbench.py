"""NaturalBench-Retrieval: pairs of natural images and their captions (Li et al. 2024, 2410.14669).

naturalbench:PATH  metadata.json, a list of {"index", "image_0", "image_1", "caption_0", "caption_1"}, and images/, as
                   in NaturalBench-Retrieval.zip on the Hub and the authors' naturalbench_retrieval.py; also the parent
                   folder, and Parquet files with these columns
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sdsdemo.data.files.image_files import Note, silent
from sdsdemo.data.published.sets import NATURALBENCH, SET
from sdsdemo.data.readers.pairs import read_pairs
from sdsdemo.types import Example

UNPACKED = "NaturalBench-Retrieval"


def read_naturalbench(folder: Path, note: Note = silent) -> list[Example]:
    """Every pair. Raises `UserError` naming file and entry."""
    inside = folder / UNPACKED if (folder / UNPACKED).is_dir() else folder
    examples = read_pairs(inside, note, columns={"id": "index"}, stems=("metadata", "examples"))
    return [replace(example, tags={**example.tags, SET: NATURALBENCH}) for example in examples]
