"""How programs start and are watched."""

if __name__ != "flowcore.launch":
    raise ImportError(f"module {__name__!r} is flowcore.launch: import it by its full name")

from flowcore.declared import declare as _declare
from flowcore.launch.errors import LaunchError as LaunchError
from flowcore.launch.session import run as run

_declare(globals())
