"""Makes the checkout's folders `placement`, `comm` and `launch` importable as `flowcore.placement`, `.comm`, `.launch`.

In a wheel the three are folders inside `flowcore`, and nothing happens here. In a checkout they stand beside
`flowcore`, so a finder answers exactly these three names, and no other.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

SIBLINGS = ("placement", "comm", "launch")


class SiblingFinder(MetaPathFinder):
    """Finds the sibling packages of one checkout by their full names."""

    def __init__(self, root: Path) -> None:
        self.folders = {f"flowcore.{name}": root / name for name in SIBLINGS}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a sibling package; None for every other name."""
        folder = self.folders.get(fullname)
        if folder is None:
            return None
        return spec_from_file_location(fullname, folder / "__init__.py", submodule_search_locations=[str(folder)])


def install(package: Path) -> None:
    """Put the finder first on `sys.meta_path`, once, if `package` (the folder `flowcore`) stands in a checkout."""
    is_installed = any(isinstance(finder, SiblingFinder) for finder in sys.meta_path)
    if not is_installed and not (package / "comm").is_dir():
        sys.meta_path.insert(0, SiblingFinder(package.parent))


install(Path(__file__).resolve().parent)
