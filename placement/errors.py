"""The root of every error flowcore raises, and the errors of placements and layouts."""


class FlowcoreError(Exception):
    """Every error that flowcore raises on purpose; its text gives the value, the rule and the remedy.

    `told_by`: the rank that met it and told this one, None where this rank met it itself.
    """

    told_by: int | None = None


class PlacementError(FlowcoreError, ValueError):
    """A mesh, a layout or the place of a tensor breaks a rule."""
