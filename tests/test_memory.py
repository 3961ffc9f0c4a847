"""Reading does not fill memory: anonymous pages stay what they were, however large the set."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc of Linux")

# A set in shards that is read at random, in a process of its own; prints the growth of RssAnon in MB.
PROGRAM = """
import json, re, sys
from pathlib import Path
import numpy as np
import pde_data
from pde_data.arrays import _HANDLES, FileArray
from pde_data.storage import Schema, Variable, write

folder, compress, shards, samples, reads, limit = json.loads(sys.argv[1])
_HANDLES.limit = limit
bound = limit * _HANDLES.cache
dims, inner = ("sample", "time", "x", "y"), (10, 64, 64)
draw = np.random.default_rng(0)
values = draw.standard_normal((samples, *inner), dtype=np.float32)
paths = [Path(folder) / f"{number}.h5" for number in range(shards)]
coordinates = {dim: Variable((dim,), np.arange(float(size))) for dim, size in zip(dims, values.shape)}
for number, path in enumerate(paths):
    write(path, Schema({**coordinates, "u": Variable(dims)}), [(0, {"u": values + number})], compress)
assert shards * values.nbytes > 10 * bound, (shards * values.nbytes, bound)
coordinates["sample"] = Variable(("sample",), np.arange(shards * samples))
joined = FileArray(paths, "u", [samples] * shards, inner, np.float32)
pairs = pde_data.FieldDataset(Schema({**coordinates, "u": Variable(dims, joined)}))

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1000

pairs.gather(range(32))
before, largest = anonymous(), 0.0
for _ in range(reads // 32 + 1):
    items = draw.integers(0, len(pairs), 32)
    x, y = pairs.gather(items)
    shard, row = np.divmod(items // 9, samples)
    assert (x[:, 0, 0, 0].numpy() == (values[row, items % 9, 0, 0] + shard.astype(np.float32))).all()
    largest = max(largest, anonymous())
print(largest - before)
"""


def growth(tmp_path, **options):
    order = ("compress", "shards", "samples", "reads", "limit")
    arguments = json.dumps([str(tmp_path), *(options[key] for key in order)])
    done = subprocess.run([sys.executable, "-c", PROGRAM, arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.parametrize("compress", [None, "lz4"])
def test_memory_stays_flat(tmp_path, compress):
    if compress:
        pytest.importorskip("hdf5plugin")
    # A handle of 1 MiB, two files of 5.6 MB.
    assert growth(tmp_path, compress=compress, shards=2, samples=34, reads=1500, limit=1) < 15


@pytest.mark.slow
@pytest.mark.parametrize("compress", [None, "lz4"])
def test_memory_stays_flat_over_100000_reads_of_a_set_ten_times_the_cache(tmp_path, compress):
    if compress:
        pytest.importorskip("hdf5plugin")
    # As users have it: 16 handles of 1 MiB each, 18 files of 10 MB.
    assert growth(tmp_path, compress=compress, shards=18, samples=63, reads=100_000, limit=16) < 50
