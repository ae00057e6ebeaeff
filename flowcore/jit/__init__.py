"""Generated loops: the source of a fused kernel, its vector functions, and where compiled code is kept."""
