"""Graph → graph passes, one file each."""
