"""The agent's tools: they read real files below one folder and never leave it."""

from __future__ import annotations

import pathlib
import re
from collections import Counter
from dataclasses import dataclass

SKIPPED_FOLDERS = {"build", "node_modules", "__pycache__", "dist", "venv"}
LARGEST_FILE_BYTES = 512 * 1024
MOST_FILES = 20_000


class ToolError(Exception):
    """A tool could not do its work; the agent goes on without it."""

    def __init__(self, error_type: str, message: str):
        super().__init__(message)
        self.error_type = error_type


@dataclass(frozen=True)
class Match:
    file: str
    line: int  # from 1
    text: str


class Folder:
    """A folder's text files, read once and kept."""

    def __init__(self, root: str):
        self.root = pathlib.Path(root).resolve()
        self._lines: dict[str, list[str]] = {}

    @property
    def files(self) -> list[str]:
        return list(self._lines)

    def list_files(self) -> dict:
        """Reads every text file; counts files and lines by ending."""
        if not self.root.is_dir():
            raise ToolError("folder_not_found", f"{self.root} is not a folder")
        self._lines = {}
        for path in self._walk(self.root):
            if len(self._lines) == MOST_FILES:
                break
            text = read_text(path)
            if text is not None:
                self._lines[str(path.relative_to(self.root))] = text.splitlines()
        endings = Counter(pathlib.PurePath(name).suffix or "(none)" for name in self._lines)
        return {
            "files": len(self._lines),
            "lines": sum(len(lines) for lines in self._lines.values()),
            "most_frequent": dict(endings.most_common(5)),
        }

    def search_text(self, pattern: str, most: int = 5) -> tuple[dict, list[Match]]:
        """Lines that match a regular expression, whatever their case: a summary, and all of them."""
        try:
            wanted = re.compile(pattern, re.IGNORECASE)
        except re.error as error:
            raise ToolError("invalid_pattern", f"{pattern}: {error}") from error
        matches = [
            Match(name, number, line)
            for name, lines in self._lines.items()
            for number, line in enumerate(lines, 1)
            if wanted.search(line)
        ]
        per_file = Counter(match.file for match in matches)
        return {"matches": len(matches), "files": len(per_file), "most": dict(per_file.most_common(most))}, matches

    def read_lines(self, file: str, first: int, last: int) -> dict:
        """Lines first to last of one file."""
        lines = self._lines.get(file)
        if lines is None:
            raise ToolError("file_not_found", f"{file} is not a text file in this folder")
        first, last = max(1, first), min(last, len(lines))
        return {"file": file, "first_line": first, "lines": lines[first - 1:last]}

    def count_lines(self, files: list[str]) -> dict:
        return {name: len(self._lines.get(name, ())) for name in files}

    def lines_of(self, file: str) -> list[str]:
        return self._lines.get(file, [])

    def _walk(self, folder: pathlib.Path):
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or path.is_symlink():
                continue
            if path.is_dir():
                if path.name not in SKIPPED_FOLDERS:
                    yield from self._walk(path)
            elif path.is_file():
                yield path


def read_text(path: pathlib.Path) -> str | None:
    """None for what is large, binary or unreadable."""
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            return None
        data = path.read_bytes()
        return None if b"\0" in data[:4096] else data.decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
