"""A run as data: which fields, which model, how to train."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opflow.runs.images import ImageSet, is_images, open_images
from opflow.runs.labels import LABELLED, Labelled
from opflow.save import read_json, write_json
from opflow.training.config import TrainConfig

if TYPE_CHECKING:
    from pde_data import FieldDataset, MeshDataset

RUN_FILE = "run.json"


@dataclass(frozen=True)
class RunConfig:
    """Everything that `opflow train` needs, JSON values only: a run is the same wherever it is read again.

    Example:
        >>> config = RunConfig(data="ns.h5", options={"hidden_channels": 16})
        >>> RunConfig.from_dict(config.to_dict()) == config
        True
    """

    data: str = ""
    """File or folder with the fields, in any format that pde_data opens; an IDX file of images, or "digits"
    for those of scikit-learn. It is divided by sample into train, valid and test unless those have files of
    their own."""
    valid: str | None = None
    """Validation data, where they are a file of their own."""
    test: str | None = None
    """Test data, where they are a file of their own."""
    inputs: tuple[str, ...] = ()
    """Input variables; empty for what the file recommends, or its only field."""
    targets: tuple[str, ...] = ()
    """Target variables; empty for the inputs at later times, or what the file recommends."""
    window: int = 1
    """Input frames, for fields over time."""
    horizon: int = 1
    """Target frames in training, for fields over time; with several the model is unrolled."""
    classes: tuple[float, ...] = ()
    """Values of the target variable that are the labels 0, 1, ..., for models of fields and their labels (the
    inputs are the field); the nearest value counts. Images bring their own labels."""
    resolution: int | None = None
    """Resample the fields to so many points per axis."""
    distances: bool = False
    """Give the distances of nodes to the parts of the boundary as inputs too, for fields on meshes."""
    model: str = "FNO"
    """Operator or flow by its name in `opflow list`; `neuralop:UNO` is UNO of the neuraloperator package."""
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of the model; the numbers of channels, or the shape, follow from the data."""
    train: TrainConfig = TrainConfig()
    """How to train."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunConfig":
        """Build the record from what `to_dict` returned.

        Raises:
            ValueError: a field is unknown.
        """
        known = [f.name for f in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"RunConfig has no field {', '.join(unknown)}; it has {', '.join(known)}")
        values = dict(values)
        for name in ("inputs", "targets", "classes"):
            values[name] = tuple(values.get(name, ()))
        values["train"] = TrainConfig.from_dict(values.get("train", {}))
        return cls(**values)

    def write(self, folder: str | Path) -> None:
        """Write `run.json` into a run folder, atomically."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_json(Path(folder) / RUN_FILE, self.to_dict())

    @classmethod
    def read(cls, folder: str | Path) -> "RunConfig":
        """Read the `run.json` of a run folder.

        Raises:
            FileNotFoundError: the folder is not one of a run that `opflow train` started.
            ValueError: the file is damaged, or holds something else.
        """
        path = Path(folder) / RUN_FILE
        if not path.is_file():
            raise FileNotFoundError(f"{folder} is not a run folder: there is no {RUN_FILE} in it")
        return cls.from_dict(read_json(path))

    def changes(self, earlier: "RunConfig") -> dict[str, str]:
        """Return in what this differs from an earlier configuration: name, and a sentence with both values.

        Example:
            >>> RunConfig(window=2).changes(RunConfig())
            {'window': 'window was 1, now 2'}
        """
        before, now = flat(earlier.to_dict()), flat(self.to_dict())

        def told(values: dict[str, Any], name: str) -> str:
            return json.dumps(values[name]) if name in values else "not given"

        return {
            name: f"{name} was {told(before, name)}, now {told(now, name)}"
            for name in dict.fromkeys([*before, *now])
            if name not in before or name not in now or before[name] != now[name]
        }

    def dataset(self, part: str) -> "FieldDataset | MeshDataset | ImageSet | Labelled | None":
        """Open the "train", "valid" or "test" data; None where the configuration leaves no such part.

        A part with a file of its own is all of that file. Otherwise `data` is divided by sample: 8:1:1, or
        9:1:0 where the test data have a file of their own; where the validation data have one, all of `data`
        is for training, and there are no test data.

        Raises:
            ValueError: no data were named.
            pde_data.DatasetError: the file does not hold what is asked for.
        """
        data = self._part(part)
        return None if data is None else self._labelled(data)

    def _part(self, part: str) -> "FieldDataset | MeshDataset | ImageSet | None":
        if is_images(self.data):
            return open_images(self.data, part)
        if not self.data:
            raise ValueError(
                "no data were named: give --data FILE, for example one made by "
                "`pde-data generate navier_stokes ns.h5`"
            )
        own_file = {"valid": self.valid, "test": self.test}.get(part)
        if own_file:
            return self._open(own_file)
        if self.valid:
            return self._open(self.data) if part == "train" else None
        return self._open(self.data, split=part, fractions=(0.9, 0.1, 0.0) if self.test else (0.8, 0.1, 0.1))

    def open(self, path: str | Path, **options: Any) -> "FieldDataset | MeshDataset | ImageSet | Labelled":
        """Open another file as inputs and targets of this run; `options` as of `pde_data.FieldDataset`.

        Raises:
            ValueError: a window, a horizon or a resolution is asked of fields on meshes, which have neither
                times nor a grid; the classes of labels are missing, or asked for where there are none.
            pde_data.DatasetError: the file does not hold what is asked for.
        """
        return self._labelled(self._open(path, **options))

    def _labelled(self, data: Any) -> Any:
        if self.model in LABELLED:
            return Labelled(data, self.classes)
        if self.classes:
            raise ValueError(
                f"classes={self.classes} are for models of labels, {', '.join(LABELLED)}, not for "
                f"{self.model}"
            )
        return data

    def _open(self, path: str | Path, **options: Any) -> "FieldDataset | MeshDataset | ImageSet":
        from pde_data import FieldDataset, MeshDataset, formats, ugrid

        if is_images(path):
            return open_images(path)
        grid = {"resolution": self.resolution, "window": self.window, "horizon": self.horizon}
        names = (list(self.inputs) or None, list(self.targets) or None)
        if not ugrid.is_mesh(formats.read(Path(path))):
            if self.distances:
                raise ValueError(f"{path} has fields on a grid, without a boundary: leave out distances")
            return FieldDataset(path, *names, **(grid | options))
        for name, without in {"resolution": None, "window": 1, "horizon": 1}.items():
            if (grid | options)[name] != without:
                raise ValueError(
                    f"{path} has fields on meshes, without times or a grid: leave out "
                    f"{name}={(grid | options)[name]}"
                )
        options = {k: v for k, v in options.items() if k not in grid}
        return MeshDataset(path, *names, distances=self.distances, **options)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one table with dotted names.

    Example:
        >>> flat({"model": "FNO", "train": {"epochs": 3}})
        {'model': 'FNO', 'train.epochs': 3}
    """
    table = {}
    for name, value in values.items():
        table |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return table
