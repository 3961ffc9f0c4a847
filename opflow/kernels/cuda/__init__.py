"""GPU kernels in float32, written in Triton and compiled at first use; importing them imports triton."""
