"""The root of every error flowcore raises, and the errors of placements and layouts."""


class FlowcoreError(Exception):
    """Every error that flowcore raises on purpose; its text gives the value, the rule and the remedy."""


class PlacementError(FlowcoreError, ValueError):
    """A mesh, a layout or the place of a tensor breaks a rule."""
