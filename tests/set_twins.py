"""Tiny folders in the very layouts of published benchmarks: two or more examples of each part, noise for pictures."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RELATION = {
    "image_id": "1", "image_path": "1.jpg", "relation_name": "behind", "bbox_x": 1, "bbox_y": 2, "bbox_w": 10,
    "bbox_h": 9, "true_caption": "the dog is behind the cat", "false_caption": "the cat is behind the dog",
}  # fmt: skip
ATTRIBUTION = {
    "image_path": "1.jpg", "attributes": ["black", "white"], "bbox_x": 0, "bbox_y": 0, "bbox_w": 5, "bbox_h": 6,
    "true_caption": "the black dog and the white cat", "false_caption": "the white dog and the black cat",
}  # fmt: skip


def put(path: Path) -> None:
    """A picture of its own colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = tuple(sum(map(ord, path.name)) * k % 256 for k in (37, 91, 53))
    if path.suffix == ".npy":
        np.save(path, np.full((8, 12, 3), colour[::-1], np.uint8))
    else:
        Image.new("RGB", (12, 16), colour).save(path)


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def folder(home: Path) -> None:
    rows = [
        {"id": n, "caption_0": f"a cat on a dog {n}", "caption_1": f"a dog on a cat {n}", "image_0": f"{n}_0.png",
         "image_1": f"{n}_1.png", "tag": "Noun", "secondary_tag": ["Series", "Symbolic"]}
        for n in range(2)
    ]  # fmt: skip
    home.mkdir(parents=True, exist_ok=True)
    (home / "examples.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for row in rows:
        put(home / "images" / str(row["image_0"]))
        put(home / "images" / str(row["image_1"]))


def sugarcrepe(home: Path) -> None:
    for name in ("swap_obj", "add_att"):
        cases = [
            {"filename": f"{n}.jpg", "caption": f"a {n} by b", "negative_caption": f"b by a {n}"} for n in range(2)
        ]
        write(home / "data" / f"{name}.json", dict(enumerate(cases)))
    for n in range(2):
        put(home / "val2017" / f"{n}.jpg")


def sugarcrepe_pp(home: Path) -> None:
    cases = [
        {"id": n, "filename": f"{n}.jpg", "caption": f"a by b {n}", "caption2": f"a and b {n}",
         "negative_caption": f"b by a {n}"}
        for n in range(2)
    ]  # fmt: skip
    write(home / "data" / "swap_obj.json", cases)
    for n in range(2):
        put(home / "val2017" / f"{n}.jpg")


def aro(home: Path) -> None:
    write(home / "visual_genome_relation.json", [RELATION, RELATION])
    write(home / "visual_genome_attribution.json", [ATTRIBUTION])
    put(home / "images" / "1.jpg")


def mmvp(home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    patterns = ("Orientation", "Camera_Perspective")
    with (home / "Questions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Question ID", "Type", "Statement"])
        writer.writerows([n, patterns[(n - 1) // 2].replace("_", " "), f"a dog, facing {n}"] for n in range(1, 5))
    for n in range(1, 5):
        put(home / "MLLM_VLM Images" / patterns[(n - 1) // 2] / f"{n}.jpg")


def whatsup(home: Path) -> None:
    sides = {"controlled_images": ("left_of", "right_of", "on", "under"),
             "controlled_clevr": ("left_of", "right_of", "in-front_of", "behind")}  # fmt: skip
    files = {"controlled_images": "controlled_images_dataset", "controlled_clevr": "controlled_clevr_dataset"}
    for place, ways in sides.items():
        cases = [
            {"image_path": f"data/{place}/{thing}_{way}_table.jpeg",
             "caption_options": [f"A {thing} {way} a table", *(f"A {thing} {o} a table" for o in ways if o != way)]}
            for thing in ("cup", "mug") for way in ways
        ]  # fmt: skip
        write(home / f"{files[place]}.json", cases)
        for case in cases:
            put(home / place / Path(str(case["image_path"])).name)
    write(home / "coco_qa_one_obj.json", [[1, "A photo of a dog on the left", "A photo of a dog on the right"]])
    write(home / "coco_qa_two_obj.json", [[1, "A photo of a dog above a cat", "A photo of a dog below a cat"]])
    write(home / "vg_qa_one_obj.json", [[7, "A photo of a cup on the top", "A photo of a cup on the bottom"]])
    write(
        home / "vg_qa_two_obj.json", [["7", "A photo of a cup behind a jug", "A photo of a cup to the front of a jug"]]
    )
    put(home / "val2017" / "000000000001.jpg")
    put(home / "vg_images" / "7.jpg")


def naturalbench(home: Path) -> None:
    cases = [
        {"index": n, "image_0": f"{n}_0.jpg", "image_1": f"{n}_1.jpg", "caption_0": f"a dog {n}", "caption_1": f"a {n}"}
        for n in range(2)
    ]
    write(home / "NaturalBench-Retrieval" / "metadata.json", cases)
    for case in cases:
        put(home / "NaturalBench-Retrieval" / "images" / str(case["image_0"]))
        put(home / "NaturalBench-Retrieval" / "images" / str(case["image_1"]))


def valse(home: Path) -> None:
    def case(n: int, votes: int) -> dict[str, Any]:
        return {"dataset": "visual7w", "image_file": f"v7w_{n}.jpg", "linguistic_phenomena": "existence",
                "caption": f"There are no animals {n}.", "foil": f"There are animals {n}.", "classes": 0,
                "mturk": {"foil": 3 - votes, "caption": votes, "other": 0}}  # fmt: skip

    for name in ("existence", "counting-hard", "counting-adversarial"):
        write(home / "data" / f"{name}.json", {f"{name}_{n}": case(n, 3 - n) for n in range(3)})
    for n in range(3):
        put(home / "images" / "visual7w" / "images" / f"v7w_{n}.jpg")


def eqben(home: Path) -> None:
    """The small set for language models: YouCook2 as NumPy's files, the light images of another part as .jpg."""
    cases = [
        {"image0": f"{part}/{n}_0{suffix}", "image1": f"{part}/{n}_1{suffix}", "caption0": [f"a {n}", "b"],
         "caption1": f"b {n}"}
        for part, suffix in (("eqbenyoucook2", ".npy"), ("eqbensd", ".png")) for n in range(2)
    ]  # fmt: skip
    write(home / "all_select.json", cases)
    for case in cases:
        for key in ("image0", "image1"):
            put(home / "images" / str(case[key]).replace(".png", ".jpg"))


def eqben_whole(home: Path) -> None:
    cases = [
        {"image": f"eqbenag/a{n}/{image}.png", "caption": f"caption {caption} of {n}",
         "private_info": {"dataset": "eqbenag", "name": f"c{caption}i{image}", "sample_cnt": n}}
        for n in range(2) for caption in (1, 0) for image in (0, 1)
    ]  # fmt: skip
    write(home / "ann_json_finegrained_random.json", cases[::-1] + cases[:0])
    for case in cases:
        put(home / str(case["image"]))


SETS: dict[str, tuple[str, Callable[[Path], None], int]] = {
    "folder": ("folder", folder, 2),
    "sugarcrepe": ("sugarcrepe", sugarcrepe, 4),
    "sugarcrepe++": ("sugarcrepe++", sugarcrepe_pp, 2),
    "aro": ("aro", aro, 3),
    "mmvp-vlm": ("mmvp-vlm", mmvp, 2),
    "whatsup": ("whatsup", whatsup, 20),
    "naturalbench": ("naturalbench", naturalbench, 2),
    "valse": ("valse", valse, 6),
    "eqben": ("eqben", eqben, 4),
    "eqben, whole": ("eqben", eqben_whole, 2),
}
"""By name: the word before the colon, what writes the folder, how many examples it has."""
