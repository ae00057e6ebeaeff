"""Where data lives: meshes, layouts and their costs, as pure mathematics."""

if __name__ != "flowcore.placement":
    raise ImportError(f"module {__name__!r} is flowcore.placement: import it by its full name")
