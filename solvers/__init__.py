"""Learned preconditioners for SciPy, and the Krylov methods that carry them."""
