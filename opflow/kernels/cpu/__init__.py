"""CPU kernels in float32, compiled by numba at first use and kept on disk; importing them imports numba.

Each works on raw addresses, in tiles that stay in a core's cache, on the threads of PyTorch's own operations.
"""
