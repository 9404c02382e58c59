"""Each small thing that is easy to do almost right is done in one place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "codexd"

# What is written, and the modules that may write it.
PLACES = {
    # Writing aside and renaming, setting aside; and a log's rotation, which renames what is whole,
    # as are the directory of a spare's pipes, and its socket.
    r"os\.(replace|rename|renames|link)\(|shutil\.move": {
        "platform/files",
        "eventlog/appendlog",
        "child/pipes",
        "child/beside",
    },
    r"O_EXCL|O_CREAT|O_NOFOLLOW|O_TRUNC": {
        "platform/files",
        # They say how one of its functions is to open: with no O_EXCL, so never their own.
        "eventlog/appendlog",
        "cli/start",
    },
    r"\.(bad|tmp)[-\"]": {"platform/files"},
    r"NamedTemporaryFile|mkstemp|\bopen\([^)]*[\"'](w|a|x|r\+)[bt+]*[\"']": {
        "cli/streams",
        "platform/files",
    },
    # Taking a lock, and signing it.
    r"\bflock\(|lockf\(|LOCK_(EX|SH)": {"platform/filelock"},
    # What it takes for the device to have it.
    r"\bos\.fsync|F_FULLFSYNC": {"platform/files"},
}
# Comments and docstrings may tell of anything.
_TOLD = re.compile(r'"""(?:.|\n)*?"""|#.*')


def strays(package: Path) -> list[str]:
    """Each thing that is done elsewhere, one line each."""
    found = []
    for path in sorted(package.rglob("*.py")):
        where = str(path.relative_to(package).with_suffix(""))
        text = _TOLD.sub("", path.read_text())
        for pattern, places in PLACES.items():
            if where not in places and (match := re.search(pattern, text)):
                found.append(f"{where}: {match[0]}")
    return found


def test_each_is_done_in_its_place() -> None:
    assert strays(PACKAGE) == []


def test_no_place_is_named_in_vain() -> None:
    for pattern, places in PLACES.items():
        for place in places:
            text = _TOLD.sub("", (PACKAGE / f"{place}.py").read_text())
            assert re.search(pattern, text), (pattern, place)


@pytest.mark.parametrize(
    "line",
    [
        "os.replace(aside, path)",
        "descriptor = os.open(path, os.O_WRONLY | os.O_EXCL)",
        'aside = f"{path}.bad-{now}"',
        'aside = path + ".tmp"',
        'with open(path, "w") as file: ...',
        "with open(path, 'a', encoding='utf-8') as file: ...",
        "fcntl.flock(descriptor, fcntl.LOCK_EX)",
        "fcntl.lockf(descriptor, fcntl.LOCK_EX)",
        "os.fsync(descriptor)",
        "tempfile.NamedTemporaryFile()",
    ],
)
def test_another_place_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "other.py").write_text(f'"""os.replace(it)"""\n# os.fsync(it)\n{line}\n')
    assert len(strays(tmp_path)) == 1
