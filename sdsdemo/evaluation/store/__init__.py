"""An evaluation run as a folder: its settings, and a line for each example and model once scored. Computes nothing.

    run.json        format, benchmark with its hash, settings, models with their fingerprints, versions, machine, and
                    "skipped": examples whose pictures could not be opened, with the reason
    examples.jsonl  {"id", "tags", "images", "captions", "made_of"}: numbers, tags and digests only, so that a report
                    needs no benchmark, and a run of a gated benchmark may be shared
    scores.jsonl    one line per model and example: `row_format`
    run.lock        held while a line is written

Several processes, from one run or several, may write to one folder: their scores add up, without duplicate rows. A
killed run resumes where it stopped; a truncated last line is dropped. A row counts only if its example has not changed.
Another benchmark, other settings or another model of the same name are refused.
"""

from sdsdemo.evaluation.store.examples import EXAMPLES, StoredExample, differs, fits, retagged, stored_of
from sdsdemo.evaluation.store.header import HEADER, Header, Settings, hash_of, settings_of
from sdsdemo.evaluation.store.reading import StoredRun, read_run
from sdsdemo.evaluation.store.row_format import BLIND, TEXT_ONLY, Row, key_of, row_of, scores_of
from sdsdemo.evaluation.store.score_rows import SCORES
from sdsdemo.evaluation.store.writing import LOCK, RunFolder, named

__all__ = [
    "BLIND", "EXAMPLES", "HEADER", "LOCK", "SCORES", "TEXT_ONLY", "Header", "Row", "RunFolder", "Settings",
    "StoredExample", "StoredRun", "differs", "fits", "hash_of", "key_of", "named", "read_run", "retagged", "row_of",
    "scores_of", "settings_of", "stored_of",
]  # fmt: skip
