"""How data moves: boxing, transports and the errors of communication."""

if __name__ != "flowcore.comm":
    raise ImportError(f"module {__name__!r} is flowcore.comm: import it by its full name")
