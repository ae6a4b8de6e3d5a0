"""Finds visitors' runs by the names under which they are shared, even after a restart of the server."""

from __future__ import annotations

from pathlib import Path

from sdsdemo.app.job_states import Job
from sdsdemo.app.jobs import Jobs
from sdsdemo.app.run_registry import RunRegistry
from sdsdemo.app.sharing import GONE, is_shared, shared_name
from sdsdemo.errors import UserError
from sdsdemo.evaluation.store import read_run
from sdsdemo.types import Card


class SharedRuns:
    """The runs of one server, for whoever knows a shared name."""

    def __init__(self, jobs: Jobs, registry: RunRegistry) -> None:
        self.jobs, self.registry = jobs, registry
        jobs.workbench.find_shared, registry.find_shared = self.card, self.evaluated
        jobs.forget = self.forget

    def job(self, name: str) -> Job:
        """The run with this shared name, to look at. Raises `UserError` if it is no longer here."""
        return self.jobs.get(self._id(name))

    def card(self, name: str) -> Card | None:
        """The card of a shared model, which is lent to the workbench; None if it is not here."""
        try:
            return self.jobs.workbench.card(self.jobs.model(self._id(name)))
        except UserError:
            return None

    def evaluated(self, name: str) -> Path | None:
        """The folder of the Mini benchmark with this shared model; None if its owner has not scored it."""
        if self.card(name) is None:
            return None
        folder = self.jobs.folder(self._id(name)) / "evaluated"
        try:
            return folder if name in read_run(folder).header["models"] else None
        except UserError:
            return None

    def forget(self, name: str) -> None:
        """Withdraw a shared model and its run, whose files are deleted."""
        self.jobs.workbench.forget(name)
        self.registry.forget(name)

    def _id(self, name: str) -> str:
        found = next((id_ for id_ in self.jobs.ids if is_shared(name) and shared_name(id_) == name), None)
        if found is None:
            raise UserError(GONE)
        return found
