"""The checkout's folders → `build/tree/flowcore`, links laid out as in the wheel, for tools that only read files."""

import shutil
from pathlib import Path

SIBLINGS = ("placement", "comm", "launch")


def lay_out(root: Path) -> Path:
    """Rebuild `build/tree` under `root`: every entry of `flowcore/`, then every sibling package, as a link."""
    tree = root / "build" / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    package = tree / "flowcore"
    package.mkdir(parents=True)
    entries = [entry for entry in (root / "flowcore").iterdir() if entry.name != "__pycache__"]
    for entry in [*entries, *(root / name for name in SIBLINGS)]:
        (package / entry.name).symlink_to(entry, target_is_directory=entry.is_dir())
    return tree


if __name__ == "__main__":
    lay_out(Path(__file__).resolve().parent.parent)
