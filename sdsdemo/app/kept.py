"""The workbench that calls from Python share, so that a model is loaded at the first of them only."""

from __future__ import annotations

from threading import Lock

from sdsdemo.app.workbench import Workbench
from sdsdemo.settings import Settings

_ONE = Lock()
_kept: Workbench | None = None


def kept_workbench() -> Workbench:
    """The same one as long as the environment variables stay as they are. Safe to call from several threads.

    Raises `UserError` for an invalid environment variable.
    """
    global _kept
    settings = Settings.of_the_shell()
    with _ONE:
        if _kept is None or _kept.settings != settings:
            _kept = Workbench(settings)
        return _kept


def forget_models() -> None:
    """Lets go of the loaded models; calls in progress keep theirs until they are done."""
    global _kept
    with _ONE:
        _kept = None
