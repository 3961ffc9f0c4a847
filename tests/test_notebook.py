"""What notebooks show of data sets."""

import base64
import io
import re
import subprocess
import sys

import numpy as np
import xarray as xr
from PIL import Image

from pde_data import FieldDataset


def picture(html):
    (encoded,) = re.findall(r"src='data:image/png;base64,([^']+)'", html)
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


def cells(html):
    return dict(re.findall(r"<th[^>]*>(.*?)</th><td[^>]*>(.*?)</td>", html))


def test_fields_show_where_they_come_from_and_how_they_look():
    u = np.random.default_rng(0).standard_normal((10, 4, 6, 8)).astype(np.float32)
    source = xr.Dataset({"u": (("sample", "time", "x", "y"), u, {"units": "m s-1"})})
    html = FieldDataset(source, window=2, split="train")._repr_html_()
    assert cells(html) == {
        "source": "the xarray.Dataset",
        "samples": "8 of 10",
        "split": "train",
        "grid": "6 x 8",
        "items": "16, 2 to 1 of 4 frames",
        "inputs": "u [m s-1]",
        "targets": "u [m s-1]",
    }
    colours = np.asarray(picture(html).convert("RGB")).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) > 100


def test_names_of_strangers_are_no_html():
    name = "<script>alert(1)</script>"
    source = xr.Dataset({name: (("sample", "x"), np.zeros((2, 8)), {"units": "<b>"})})
    html = FieldDataset(source, name, name)._repr_html_()
    assert "<script>" not in html and "<b>]" not in html and "&lt;script&gt;" in html


def test_nothing_is_drawn_before_it_is_asked_for():
    code = (
        "import sys, numpy as np, pde_data;"
        "pde_data.FieldDataset.from_arrays(inputs=np.zeros((2, 8)), targets=np.zeros((2, 8)));"
        "assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
