"""python -m tests.hostile ADDRESS: prints what is wrong as it comes, then a table; ends with 1 where anything was.

python app.py --port 7860                          in another terminal; then
python -m tests.hostile http://127.0.0.1:7860
"""

from __future__ import annotations

import argparse
import itertools
import sys

from tests.hostile.campaign import Campaign, Sent, table


def run(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description="Hostile files and requests.")
    parser.add_argument("address")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--most", type=int, help="so many of each group, chosen by the seed; by default all")
    parser.add_argument("--all", action="store_true", help="print what was answered well too")
    asked = parser.parse_args(arguments)
    campaign, sent = Campaign(asked.address, asked.seed), []
    for one in itertools.chain(campaign.files(asked.most), campaign.shell(asked.most), campaign.requests(asked.most)):
        _note(sent, one, asked.all)
    _note(sent, campaign.cancels(), True)
    _note(sent, campaign.at_once(), True)
    _note(sent, campaign.answers_still(), True)
    print(table(sent))
    return int(any(one.faults for one in sent))


def _note(sent: list[Sent], one: Sent, prints: bool) -> None:
    sent.append(one)
    if one.faults or prints:
        print(one, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(run())
