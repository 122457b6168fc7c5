"""Folders that take long to make: made aside, gone on with after a stop, renamed last.

While it is made, everything lies in a folder of the same name with another ending; the
folder itself appears by one rename, so that it is always complete. What was made is
described by a plan: only the same plan goes on, or is told that all is done.
"""

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from qface_jax.errors import DataError


class Resumable(NamedTuple):
    """A folder that is made.

    Attributes:
        out: the folder, absolute.
        ending: of the folder in which it is made.
        report: name of the file in `out` that has the plan, under "plan".
        plan: what is made of what, fit for JSON.
        writer: what may be writing at the same time, for messages.
        other: what of another plan is called, finished.
        unfinished: likewise, unfinished.
    """

    out: Path
    ending: str
    report: str
    plan: dict[str, Any]
    writer: str
    other: str
    unfinished: str

    @property
    def work(self) -> Path:
        """The folder in which it is made."""
        return self.out.with_name(self.out.name + self.ending)

    def finished(self) -> dict[str, Any] | None:
        """Returns the report of the finished folder; None: it is not there, or empty.

        Raises:
            DataError: it holds something else.
        """
        if not self.out.exists() or (self.out.is_dir() and not any(self.out.iterdir())):
            return None
        file = self.out / self.report
        report = json.loads(file.read_text()) if file.is_file() else {}
        if report.get("plan") != self.plan:
            content = self.other if report else "something else"
            raise DataError(
                f"{self.out}: already exists and holds {content}; choose another "
                "folder, or remove it"
            )
        shutil.rmtree(self.work, ignore_errors=True)
        return report

    def agree(self, plan: dict[str, Any]) -> None:
        """Raises DataError where what lies there unfinished is of another plan.

        Args:
            plan: of what lies there.
        """
        if plan != json.loads(json.dumps(self.plan)):
            raise DataError(
                f"{self.work}: holds {self.unfinished}; remove it to start again"
            )

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[TextIO]:
        """Gives a file of the unfinished folder, to read and append to, for one alone.

        Args:
            name: of the file; it is made where there is none.

        Raises:
            DataError: another process has it.
        """
        with open(self.work / name, "a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DataError(
                    f"{self.work}: another {self.writer} is writing there; wait for it"
                ) from error
            yield file

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Says of an OSError in its body what is kept, as DataError."""
        try:
            yield
        except OSError as error:
            raise DataError(
                f"{error.filename or self.out}: cannot be written: {error.strerror}; "
                f"what was finished is kept in {self.work}, the same command goes on "
                "from there"
            ) from error
