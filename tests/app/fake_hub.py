"""A stand-in for the Hub: notes what is sent there, and refuses where it is told to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


class FakeHub:
    """As `huggingface_hub.HfApi`, for models. `calls` are the token, the repository and each file with its content."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.refuses = False

    def __call__(self, token: str) -> FakeHub:
        """In place of the class: every client is this one."""
        self.calls.append(("token", token))
        return self

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.HfApi", self)

    def whoami(self) -> dict[str, str]:
        return {"name": "ada"}

    def create_repo(self, repo: str, exist_ok: bool) -> None:
        assert not exist_ok
        if self.refuses:
            raise OSError("no")
        self.calls.append(("repo", repo))

    def upload_file(self, path_or_fileobj: str | Path | bytes, path_in_repo: str, repo_id: str) -> None:
        content = path_or_fileobj if isinstance(path_or_fileobj, bytes) else Path(path_or_fileobj).read_bytes()
        self.calls.append((path_in_repo, content))
