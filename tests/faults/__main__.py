"""python -m tests.faults --kills 100 --seed 1: prints each cut, then a table; ends with 1 where one had a fault."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.faults.campaign import PLACES, Campaign, Cut, all_ways, table


def run(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--place", nargs="+", choices=PLACES, default=[*PLACES])
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(Path(folder), asked.seed)
        cuts: list[Cut] = []
        for place, how in all_ways(asked.kills, asked.place):
            cuts.append(campaign.cut(place, how))
            print(cuts[-1], file=sys.stderr, flush=True)
    print(table(cuts))
    return int(any(cut.faults or cut.has_traceback for cut in cuts))


if __name__ == "__main__":
    sys.exit(run())
