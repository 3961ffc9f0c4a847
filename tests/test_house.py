"""What holds for the package as a whole: public names, file sizes, versions, and the code of README."""

import importlib
import inspect
import re
import shlex
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PACKAGES = ("opflow", "pde_data", "solvers")
DOORS = (
    *(
        "opflow",
        "opflow.flows",
        "opflow.kernels",
        "opflow.metrics",
        "opflow.nn.invertible",
        "opflow.plot",
        "opflow.rectified",
        "opflow.runs",
        "opflow.training",
        "opflow.trust",
    ),
    *("pde_data", "pde_data.audit"),
    "solvers",
)
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# README shows sizes that people use; here each becomes one that takes seconds.
SMALL = {
    "samples=250, resolution=64": "samples=12, resolution=16, processes=1",
    "samples=64, resolution=64": "samples=6, resolution=16, processes=1",
    "t_end=20, records=20": "t_end=2, records=2",
    "n_modes=(24, 24)": "n_modes=(8, 8)",
    "hidden_channels=32": "hidden_channels=6",
    "epochs=20": "epochs=1",
    "(96, 96)": "(24, 24)",
    "rand(64, 32, 32)": "rand(6, 16, 16)",
    "n_modes=(16, 16)": "n_modes=(4, 4)",
    "epochs=5": "epochs=1",
    "--samples 250 --t-end 20 --records 20": "--samples 12 --t-end 2 --records 2 --resolution 16",
    "--epochs 20": "--epochs 1 --rollout-steps 1 --options n_modes=[8,8] hidden_channels=4 n_layers=1",
    "--epochs 40": "--epochs 2",
    "epochs=40, ema=0.99": "epochs=1",
    "levels=2, steps=8": "levels=1, steps=1, hidden_channels=4",
    "TrainConfig(epochs=100": "TrainConfig(epochs=1",
    "--epochs 100": "--epochs 1 --options levels=1 steps=1 hidden_channels=4",
}


@pytest.mark.parametrize("door", DOORS)
def test_public_names_import_and_say_what_they_are(door):
    module = importlib.import_module(door)
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        assert name in dir(module)
        if inspect.isclass(value) or inspect.ismodule(value) or inspect.isroutine(value):
            # The line of the class itself, not one it inherits.
            first = inspect.cleandoc(vars(value).get("__doc__") or value.__doc__ or "").split("\n")[0]
            assert first.endswith((".", ":")), f"{door}.{name} does not say in a line what it is: {first!r}"


@pytest.mark.parametrize("name", PACKAGES)
def test_unknown_names_are_attribute_errors(name):
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        importlib.import_module(name).nonsense  # noqa: B018


def test_a_file_holds_one_idea():
    long = {
        str(path.relative_to(ROOT)): lines
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert not long


def test_one_version_everywhere():
    import opflow

    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    latest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert citation and latest
    versions = {
        PROJECT["project"]["version"],
        opflow.__version__,
        citation[1],
        latest[1],
        version("opflow-sciml"),
    }
    assert len(versions) == 1, versions


def test_types_are_shipped_and_packages_are_in_the_wheel():
    assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == list(PACKAGES)
    for package in PACKAGES:
        assert (ROOT / package / "py.typed").is_file()


def test_dependencies_have_lower_bounds_only():
    for text in requires("opflow-sciml") or ():
        requirement = Requirement(text)
        bounds = {spec.operator for spec in requirement.specifier}
        assert bounds == {">="} or requirement.name == "opflow-sciml", text


def test_constraints_pin_every_core_dependency_within_its_bound():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {
        Requirement(line).name.lower().replace("_", "-"): Requirement(line)
        for line in lines
        if line[0] != "#"
    }
    for text in PROJECT["project"]["dependencies"]:
        requirement = Requirement(text)
        (pin,) = pins[requirement.name.lower()].specifier
        assert pin.operator == "==" and pin.version in requirement.specifier, text
    assert "torchvision" not in pins  # one from another index than torch breaks every package that imports it
    assert not any("+" in line for line in lines), "local versions exist on one index only"


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    found = [block for name, block in fenced if name == language]
    return [re.sub("|".join(map(re.escape, SMALL)), lambda match: SMALL[match[0]], block) for block in found]


def test_sizes_of_readme_are_those_made_small():
    assert not [size for size in SMALL if size not in README]


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.split("\n")[3][:20])
def test_python_of_readme_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})


def test_commands_of_readme_run(tmp_path, monkeypatch, capsys):
    from opflow import cli as opflow_cli
    from pde_data import cli as data_cli

    monkeypatch.chdir(tmp_path)
    commands = [line for block in blocks("") for line in block.splitlines()]
    ours = [
        shlex.split(line, comments=True) for line in commands if line.startswith(("opflow ", "pde-data "))
    ]
    assert len(ours) > 4
    for program, *arguments in ours:
        main = {"opflow": opflow_cli.main, "pde-data": data_cli.main}[program]
        assert main(arguments) == 0, capsys.readouterr().err
    assert (tmp_path / "runs" / "flows" / "report.md").is_file()


def test_readme_names_make_targets_and_files_that_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", README)) <= targets
    for path in re.findall(r"(?:tests|docs|benchmarks|examples)/[\w/.]+\.(?:py|md)", README):
        assert (ROOT / path).is_file(), path
    extras = set(PROJECT["project"]["optional-dependencies"])
    listed = README[README.index("Extras:") : README.index("## More")]
    assert set(re.findall(r"`(\w+)`", listed)) == extras
