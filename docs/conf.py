"""Configuration of Sphinx; `make docs` builds it with warnings as errors and without a network."""

import csv
import re
from pathlib import Path

import opflow

ROOT = Path(__file__).parent.parent

project = "opflow"
author = "The opflow developers"
copyright = author
release = version = opflow.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "jupyter_execute"]

html_theme = "furo"
html_title = f"opflow {release}"

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_execution_show_tb = True

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = ["Shapes", "Formula", "Source"]


def markdown_to_roles(app, what, name, obj, options, lines):
    """Docstrings may write code as `...` and formulas as `$...$`, which reStructuredText does not know."""
    text = "\n".join(lines)
    text = re.sub(r":\w+:`[^`]*`|``.*?``|`([^`]+)`", lambda m: f"``{m[1]}``" if m[1] else m[0], text)
    text = re.sub(
        r"^( *)\$\$(.*?)\$\$ *$",
        lambda m: f"{m[1]}.. math::\n\n{m[1]}   " + re.sub(r"\s*\n\s*", " ", m[2]) + "\n",
        text,
        flags=re.DOTALL | re.MULTILINE,
    )
    text = re.sub(r"\$([^$`]+)\$", lambda m: r"\ :math:`" + re.sub(r"\s*\n\s*", " ", m[1]) + r"`\ ", text)
    lines[:] = text.split("\n")


def write_results(app):
    """Turn benchmarks/results.csv into the table of the benchmarks page."""
    source, target = ROOT / "benchmarks" / "results.csv", Path(app.srcdir) / "_build" / "results.md"
    target.parent.mkdir(exist_ok=True)
    rows = list(csv.DictReader(source.open(encoding="utf-8"))) if source.is_file() else []
    latest = {(row["claim"], row["threads"], row["machine"]): row for row in rows}  # the last run of each
    columns = ["claim", "ours", "theirs", "ratio", "spread", "threads", "machine", "date", "versions"]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    lines += [
        "| " + " | ".join(row[c].replace("|", "\\|") for c in columns) + " |" for row in latest.values()
    ]
    target.write_text("\n".join(lines if rows else ["No results are recorded yet."]) + "\n", encoding="utf-8")


def setup(app):
    app.connect("autodoc-process-docstring", markdown_to_roles, priority=100)
    app.connect("builder-inited", write_results)
