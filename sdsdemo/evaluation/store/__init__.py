"""A run as a folder: what was asked, and a line for each example and model as soon as it is scored. Computes nothing.

    run.json        format, benchmark with its hash, settings, models with their fingerprints, versions, machine, and
                    "skipped": examples whose pictures could not be opened, with why
    examples.jsonl  {"id", "tags", "images", "captions", "made_of"}: numbers, tags and digests only, so that a report
                    needs no benchmark, and a run of a gated one may be shown to others
    scores.jsonl    a line a model and example: `rows`
    run.lock        held by whoever writes, for as long as a line takes

Several processes may write into one folder, of one run or of several: what they score adds up, and no row is there
twice. A run that was killed goes on where it stopped: a last line that was cut is dropped. A row counts only where it
is of the example as it is now. Another benchmark, other settings or another model of the same name are refused.
"""

from sdsdemo.evaluation.store.examples import EXAMPLES, StoredExample, differs, fits, stored_of
from sdsdemo.evaluation.store.header import HEADER, Header, Settings, hash_of, settings_of
from sdsdemo.evaluation.store.reading import StoredRun, read_run
from sdsdemo.evaluation.store.row_format import BLIND, TEXT_ONLY, Row, key_of, row_of, scores_of
from sdsdemo.evaluation.store.score_rows import SCORES
from sdsdemo.evaluation.store.writing import LOCK, RunFolder, named

__all__ = [
    "BLIND", "EXAMPLES", "HEADER", "LOCK", "SCORES", "TEXT_ONLY", "Header", "Row", "RunFolder", "Settings",
    "StoredExample", "StoredRun", "differs", "fits", "hash_of", "key_of", "named", "read_run", "row_of", "scores_of",
    "settings_of", "stored_of",
]  # fmt: skip
