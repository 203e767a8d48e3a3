"""The folder of a bulk job: what the job is, a lock, and the parts that are written."""

import fcntl
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cascade.bulk.part import PartKey
from cascade.errors import InputError
from cascade.files.result_files import check_output, write_whole

__all__ = ["JobFolder"]

JOB, SUMMARY, LOCK = "job.json", "summary.json", ".lock"
PART = re.compile(r"part-(\d{5})-(\d{6,})\.parquet")
PARTIAL = ".*.partial"


class JobFolder:
    """An open folder of answers.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.summary = path / SUMMARY

    def written(self) -> dict[PartKey, Path]:
        """The files of the parts that are there, in order."""
        found = {}
        for path in sorted(self.path.iterdir()):
            if match := PART.fullmatch(path.name):
                found[PartKey(int(match[1]), int(match[2]))] = path
        return found

    @classmethod
    @contextmanager
    def open(
        cls,
        path: Path,
        job: Mapping[str, Any],
        files: Mapping[str, str],
        progress: Callable[[str], None] = lambda line: None,
    ) -> Iterator["JobFolder"]:
        """Opens a folder for one process; makes it, or continues the job in it.

        Parts of sources that have changed are removed, and so are halves of parts that a killed job left.

        Args:
            path: of the folder.
            job: what must be the same when the job is continued.
            files: digest of the files of each source, by its name.
            progress: called with a line for what was removed.

        Raises:
            InputError: the path is no folder, cannot be made, or is a symbolic link; the folder is not empty and holds
                another job, or none; or another process writes there.
        """
        if path.is_symlink():
            raise InputError(f"{path} is a symbolic link; give the path of a folder")
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is not a folder")
        try:
            path.mkdir(parents=True, exist_ok=True)
            is_foreign = not (path / JOB).exists() and any(each.name != LOCK for each in path.iterdir())
            if is_foreign:
                raise InputError(f"{path} is not empty and holds no bulk job; choose another --output")
            lock = check_output(path / LOCK).open("a")
        except OSError as error:
            raise InputError(f"{path} cannot be written to: {error}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise InputError(
                    f"another process writes to {path}; wait for it, or choose another --output"
                ) from error
            folder = cls(path)
            folder._begin(dict(job) | {"files": dict(files)}, progress)
            yield folder

    def _begin(self, content: dict[str, Any], progress: Callable[[str], None]) -> None:
        for partial in self.path.glob(PARTIAL):
            partial.unlink()
        file = self.path / JOB
        if file.exists():
            before = self._before(file, content)
            for index, name in enumerate(content["files"]):
                if before["files"][name] != content["files"][name]:
                    parts = [path for key, path in self.written().items() if key.source == index]
                    progress(f"{name} has changed; its {len(parts)} parts are scored again")
                    for path in parts:
                        path.unlink()
        write_whole(file, json.dumps(content, indent=1) + "\n")

    def _before(self, file: Path, content: Mapping[str, Any]) -> dict[str, Any]:
        """The job as it was begun."""
        try:
            before: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            changed = [name for name, value in content.items() if name != "files" and before.get(name) != value]
            if list(before["files"]) != list(content["files"]):
                changed.append("files")
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise InputError(f"{file} is damaged; choose another --output") from error
        if changed:
            raise InputError(
                f"{self.path} holds a job with other values of {', '.join(changed)}; its parts cannot be continued. "
                "Choose another --output"
            )
        return before
