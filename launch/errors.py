"""The errors of starting programs and of watching them."""

from flowcore.placement.errors import FlowcoreError


class LaunchError(FlowcoreError):
    """A program cannot be started, or its ranks ended without a result."""
