"""A selection of hostile files and requests: each is answered without a traceback, a path, or a fault of the server."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from sdsdemo.settings import ROOT
from tests.hostile.campaign import Campaign, Sent, table
from tests.hostile.files import File
from tests.hostile.judging import Judge
from tests.hostile.names import names
from tests.hostile.page import output_of
from tests.hostile.pictures import pictures
from tests.hostile.tables import fault_of, place, tables
from tests.hostile.wire import Answer, Call
from tests.server_process import Cost
from tests.visitors import growth_of

UPLOADED = "/srv/page-1/" + "0" * 64 + "/a.png"
JUDGE = Judge(UPLOADED, "what nobody may be sent")


def said(body: bytes, status: int = 200, kind: str = "application/json") -> Answer:
    return Answer(status=status, headers={"content-type": kind}, body=body)


def test_a_selection_is_answered_well(served) -> None:
    """`python -m tests.hostile` sends all of it, and measures."""
    campaign = Campaign(served.address, seed=3, measures=False)
    sent = [*campaign.files(7), *campaign.requests(40), campaign.cancels(), campaign.answers_still()]
    assert not [str(one) for one in sent if one.faults]
    assert len(sent) > 100


LIGHT = [file for file in tables() if not re.search("[0-9] ?(MB|million|,000)|bomb|archives", file.name)]


@pytest.mark.parametrize("file", random.Random(3).sample(LIGHT, 12), ids=lambda file: file.name)
def test_a_hostile_table_is_read_or_refused_in_a_sentence(file: File, tmp_path: Path) -> None:
    place(file, tmp_path)
    assert fault_of(tmp_path) == ""


def test_there_are_as_many_as_were_asked_for(served) -> None:
    campaign = Campaign(served.address, seed=1, measures=False)
    files = [file.name for file in (*pictures(), *names(), *tables())]
    assert len(set(files)) == len(files) >= 120
    assert campaign.count_of_requests() >= 200


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (said(b'{"error": "Traceback (most recent call last)"}'), "a traceback"),
        (said(f"cannot open {ROOT}/app.py".encode()), "a path"),
        (said(b"what nobody may be sent"), "a secret"),
        (said(b"root:x:0:0:root:/"), "a secret"),
        (said(b"<p><script>hostile()</script>", kind="text/html"), "a script"),
        (said(b"{}", status=500), "status 500"),
        (said(b"busy", status=503), "status 503"),
        (said(b'{"error": null}'), "refused without a sentence"),
        (said(b'data: {"msg":"process_completed","output":{"error":null}}\n\n'), "refused without a sentence"),
        (Answer(), "no answer"),
    ],
)
def test_what_is_wrong_with_an_answer_is_seen(answer: Answer, fault: str) -> None:
    assert [one for one in JUDGE.faults(answer) if one.startswith(fault)]


@pytest.mark.parametrize(
    "answer",
    [
        said(json.dumps([UPLOADED]).encode()),
        said(b'{"detail": "wait a minute"}', status=503),
        said(b'{"error": "too large"}', status=422),
        said(b"<script>hostile()</script>"),
    ],
)
def test_what_is_well_passes(answer: Answer) -> None:
    assert JUDGE.faults(answer) == []


def test_what_a_request_held_may_be_repeated() -> None:
    held = f"{ROOT}/app.py"
    assert JUDGE.faults(said(f"File not allowed: {held}.".encode(), 403), [held.encode()]) == []
    assert JUDGE.faults(said(f"File not allowed: {held}.".encode(), 403))


def test_the_table_counts_faults_by_kind() -> None:
    sent = [Sent("names", "a", ["a path: x"]), Sent("names", "b", [], Cost(seconds=1.5, peak_mb=30))]
    lines = table(sent).splitlines()
    assert lines[1].split() == ["names", "2", "1", "0", "1", "0", "0", "0", "0", "1.50", "30"]
    assert lines[-1].startswith("names, a: ")


def test_bytes_are_sent_as_they_are() -> None:
    call = Call(name="a", method="POST", path=b"/../\xff", headers=[("Host", "b\0")], body=[b"abc", b""])
    head, *chunks = call.parts("a:1")
    assert head.startswith(b"POST /../\xff HTTP/1.1\r\n")
    assert b"Host: b\0\r\n" in head
    assert b"Host: a:1" not in head
    assert chunks == [b"3\r\nabc\r\n", b"0\r\n\r\n"]


def test_the_last_message_of_a_stream_is_its_output() -> None:
    lines = [b'data: {"msg":"estimation"}', b'data: {"msg":"process_completed","output":{"data":[7]}}']
    assert output_of(said(b"\n\n".join(lines))) == {"data": [7]}


def test_memory_grows_from_the_first_looks_to_the_last() -> None:
    assert growth_of([100.0] * 10 + [150.0] * 5 + [110.0] * 10) == pytest.approx(0.1)
    assert growth_of([100.0]) == 0
