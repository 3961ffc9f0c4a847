"""What every test file shares: one thread per process, and the folder of real files."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of third-party files, or skip when it is not on this machine."""
    for folder in (os.environ.get("OPFLOW_DATA"), Path(__file__).parents[2] / "shared" / "data"):
        if folder and Path(folder).is_dir():
            return Path(folder)
    pytest.skip("the real files are not here; set OPFLOW_DATA to their folder")
