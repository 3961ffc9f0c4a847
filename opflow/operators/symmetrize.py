"""Any operator made equivariant, from outside."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from opflow.nn.grid_poses import GridPoses
from opflow.nn.grid_turns import ALIASES, GRID_GROUPS, require_centre
from opflow.nn.normalize import Normalizer
from opflow.nn.point_poses import POINT_GROUPS, PointPoses
from opflow.nn.representations import channels_of, resolve_kinds
from opflow.operators.base import Operator, placed

if TYPE_CHECKING:
    from pde_data.audit import Audit

METHODS = ("average", "frame", "canonical")


class Symmetrize(Operator):
    r"""Make an operator exactly equivariant under a group, whatever it is.

    .. math:: F(x) = \sum_g w_g(x)\, \rho_{out}(g)^{-1} f(\rho_{in}(g) x)

    On grids, g runs through the quarter turns of the square ("p4", also "C4"), those and the reflections
    ("p4m", also "D4"), or reflections alone ("mx", "my", "p2mm"). On point clouds, for models called as
    `model(values, coords, query_coords, ...)`, the group is "SO(2)", "O(2)", "SO(3)" or "O(3)", each together
    with translations, and g runs through the poses in which the principal axes of the points are those of
    space. The model inside sees raw fields, normalises them itself, and in the case of clouds is given
    coordinates about their centre.

    In training mode one g is drawn for each sample with probability w (stochastic frame averaging, Duval et
    al., FAENet, 2023): a step costs what it costs without, and the samples are augmented by their images. For
    samples on one cloud it is one g for all, so that they stay on one cloud.

    Args:
        model: an `Operator`, any module with such a call, or the description of an operator,
            `{"class": name, "config": arguments}`.
        group: the name of the group.
        rep_in: how the input fields turn: "scalar", "pseudoscalar" or "vector", one kind for all or one per
            field; scalars when None.
        rep_out: how the output fields turn, likewise.
        method: the weights w. "average": all elements alike, for grids. "frame": those that a frame of the
            field (grids: of its skewest derivatives) or the cloud (principal axes, all signs) holds, at less
            cost for grids. "canonical": one pose, by the skewness of the field or the cloud, one call of the
            model in all. "average", and "frame" on grids, are continuous in the field; a canonical pose jumps
            where two poses tie, and every pose of a cloud where the variances along two axes cross: a cloud
            about as long as it is wide changes its axes with its mesh.
        in_channels: channels of the input, for a description without them.
        out_channels: channels of the output, likewise.
        about: what stays on a grid: the "middle" of the array, or the "origin" of a periodic grid, its first
            point. The two differ by a translation: it matters where the law knows places, as under a forcing.

    Shapes:
        those of the model; grids need not be square, the model must then take both H x W and W x H.

    Raises:
        ValueError: the group, the method or a kind is unknown, the kinds do not fit the channels, or the
            points of a cloud have no principal axes.

    Source: Puny et al., Frame Averaging for Invariant and Equivariant Network Design, 2022; for continuous
    weights Dym et al., Equivariant Frames and the Impossibility of Continuous Canonicalization, 2024.

    Example:
        >>> from opflow import FNO
        >>> fno = FNO(n_modes=(4, 4), in_channels=2, out_channels=1, hidden_channels=4)
        >>> model = Symmetrize(fno, "p4", rep_in="vector", rep_out="pseudoscalar").eval()
        >>> velocity = torch.randn(1, 2, 8, 8)
        >>> turned = torch.stack([-velocity[:, 1], velocity[:, 0]], 1).rot90(1, (2, 3))
        >>> torch.allclose(model(turned), model(velocity).rot90(1, (2, 3)), atol=1e-5)
        True
    """

    def __init__(
        self,
        model: nn.Module | Mapping[str, Any],
        group: str,
        rep_in: str | Sequence[str] | None = None,
        rep_out: str | Sequence[str] | None = None,
        method: str = "average",
        in_channels: int | None = None,
        out_channels: int | None = None,
        about: str = "middle",
    ):
        require_centre(about)
        if group not in {**GRID_GROUPS, **ALIASES, **POINT_GROUPS}:
            known = ", ".join([*GRID_GROUPS, *ALIASES, *POINT_GROUPS])
            raise ValueError(f"unknown group {group!r}: there are {known}")
        if method not in METHODS:
            raise ValueError(f"method={method!r} is not one of {', '.join(map(repr, METHODS))}")
        if method == "average" and group in POINT_GROUPS:
            raise ValueError(
                f"method='average' is for finite groups; {group} has infinitely many elements: "
                "use 'frame' or 'canonical'"
            )
        if isinstance(model, Mapping):
            model = _built(model, {"in_channels": in_channels, "out_channels": out_channels})
        if group not in POINT_GROUPS and getattr(model, "n_dim", None) == 1:
            raise ValueError(f"group {group!r} turns two space axes, and the {type(model).__name__} has one")
        n_dim = POINT_GROUPS[group][0] if group in POINT_GROUPS else 2
        channels = [
            _channels(model, "in_channels", in_channels, rep_in, n_dim),
            _channels(model, "out_channels", out_channels, rep_out, n_dim),
        ]
        super().__init__(*channels, n_dim=getattr(model, "n_dim", None))
        del self._modules["normalizer"]  # that of the model inside is in use
        self.model = model
        if hasattr(model, "n_modes"):  # training and export ask for them
            self.n_modes = model.n_modes
        self.group, self.method = group, method
        self.in_kinds = resolve_kinds("rep_in", rep_in, self.in_channels, n_dim)
        self.out_kinds = resolve_kinds("rep_out", rep_out, self.out_channels, n_dim)
        self.turns_about = about
        arguments = (group, self.in_kinds, self.out_kinds, method)
        self.poses = PointPoses(*arguments) if group in POINT_GROUPS else GridPoses(*arguments, about)

    @property
    def config(self) -> dict[str, Any]:
        """The constructor arguments, the model inside as a description."""
        if not isinstance(getattr(self.model, "config", None), dict):
            raise ValueError(
                f"a {type(self.model).__name__} cannot be described by its arguments, and so not be saved; "
                "wrap an operator of opflow, or one made by opflow.build('neuralop:NAME', ...)"
            )
        return {
            "model": {"class": type(self.model).__name__, "config": self.model.config},
            "group": self.group,
            "rep_in": list(self.in_kinds),
            "rep_out": list(self.out_kinds),
            "method": self.method,
            "about": self.turns_about,
        }

    @property
    def padding(self) -> tuple[float, ...]:
        """The padding of the model inside, per axis, which holds modes as well as points do."""
        padding: Any = getattr(self.model, "padding", None)
        return tuple(padding or (0.0,) * (self.n_dim or 2))

    @property
    def exports_any_grid(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether one exported graph of the model inside serves every grid."""
        return getattr(self.model, "exports_any_grid", True)

    @property
    def normalizer(self) -> Normalizer:
        """The normaliser of the model inside: it acts on turned fields, and need not respect the group."""
        normalizer: Any = self.model.normalizer
        return normalizer

    @classmethod
    def from_audit(
        cls,
        report: "Audit",
        model: nn.Module,
        rep_in: str | Sequence[str] | None = None,
        rep_out: str | Sequence[str] | None = None,
        method: str = "average",
    ) -> "Symmetrize":
        """Wrap a model by the largest group that the law behind data keeps.

        Args:
            report: what `pde_data.audit.symmetries(file)` returned.
            model: an operator on 2-D grids.
            rep_in: kinds of the input fields; those of the audited fields, once per frame, when None.
            rep_out: kinds of the output fields, likewise.
            method: see `Symmetrize`.

        Raises:
            ValueError: the data keep neither the rotation nor a reflection, or the kinds are not known.

        Example:
            >>> from pde_data.audit import Audit, Score
            >>> kept = [Score(s, "keep") for s in ("rotation by 90", "reflection of x", "reflection of y")]
            >>> report = Audit({s.symmetry: s for s in kept}, 0.02, 0.99, {"w": "pseudoscalar"})
            >>> from opflow import FNO
            >>> model = Symmetrize.from_audit(report, FNO((4, 4), 2, 1, hidden_channels=4))
            >>> model.group, model.in_kinds
            ('p4m', ('pseudoscalar', 'pseudoscalar'))
        """
        kept = {name for name, score in report.scores.items() if score.verdict == "keep"}
        mirrors = [axis for axis in "xy" if f"reflection of {axis}" in kept]
        if "rotation by 90" in kept:
            group = "p4m" if mirrors else "p4"  # a rotation and one reflection make the others
        elif mirrors:
            group = "p2mm" if len(mirrors) == 2 else f"m{mirrors[0]}"
        else:
            verdicts = "; ".join(f"{name}: {score.verdict}" for name, score in report.scores.items())
            raise ValueError(f"the data keep no rotation or reflection to wrap the model in ({verdicts})")
        given = (("in_channels", rep_in), ("out_channels", rep_out))
        kinds = [rep or _frames(report.kinds, getattr(model, name)) for name, rep in given]
        return cls(model, group, *kinds, method=method, about=report.about)

    def forward(self, x: Tensor, *where, **options) -> Tensor:
        """Map raw fields to raw fields, as the model inside is called.

        Args:
            x: grids: `(batch, in_channels, *space)`; clouds: `(batch, point, in_channels)`.
            where: grids: `out_grid`, optional; clouds: `coords`, and `query_coords`, optional.
            options: clouds: further arguments of the model; `weights` weigh the points for the pose as well.
        """
        if isinstance(self.poses, GridPoses):
            self._check(x)
        return self.operate(x, *where, **options)

    def predict(self, x, *where, **options) -> Tensor:
        """Evaluate without gradients, in evaluation mode, on the device and in the dtype of the model.

        Args:
            x: tensor or array, as for `forward`, or one sample without the batch axis.
            where: as for `forward`.
            options: as for `forward`.

        Returns:
            the output on the CPU (without the batch axis when `x` had none).
        """
        if isinstance(self.poses, GridPoses):
            return super().predict(x, *where, **options)
        weight = next(self.parameters())

        def here(given: Any) -> Any:
            if given is None or isinstance(given, float | int):
                return given
            return placed(torch.as_tensor(given), weight.device, weight.dtype)

        x, options = here(x), {name: here(given) for name, given in options.items()}
        was_training = self.training
        self.eval()
        try:
            with torch.no_grad():
                y = self(x[None] if x.ndim == 2 else x, *map(here, where), **options)
        finally:
            self.train(was_training)
        return (y[0] if x.ndim == 2 else y).cpu()

    def operate(self, x: Tensor, *where, **options) -> Tensor:
        """Map raw fields to raw fields; the normaliser acts inside, on turned fields."""
        look = self.poses.look(self.model, x, *where, **options)
        if self.training:
            return look.draw()
        weights = look.weights
        if torch.compiler.is_compiling():  # which poses count is in the values
            terms = [(weights[:, g], look.at(g)) for g in range(weights.shape[1])]
        elif look.shared:
            terms = [(weights[:, g], look.at(g)) for g in weights[0].nonzero()[:, 0].tolist()]
        else:
            weights, order = weights.sort(1, descending=True)
            most = int((weights > 0).sum(1).max())
            terms = [(weights[:, rank], look.at_each(order[:, rank])) for rank in range(most)]
        weighted = [weight.view(-1, *(1,) * (y.ndim - 1)) * y for weight, y in terms]
        return sum(weighted[1:], weighted[0])


def _built(description: Mapping[str, Any], channels: Mapping[str, int | None]) -> nn.Module:
    from opflow.operators.table import OPERATORS, build

    if set(description) != {"class", "config"}:
        raise ValueError(
            f'an operator is described as {{"class": NAME, "config": {{ARGUMENT: VALUE, ...}}}}, '
            f"got {dict(description)}"
        )
    given = {name: count for name, count in channels.items() if count is not None}
    name, arguments = description["class"], given | description["config"]
    return OPERATORS[name](**arguments) if name in OPERATORS else build(name, **arguments)


def _channels(
    model: nn.Module, name: str, given: int | None, kinds: str | Sequence[str] | None, n_dim: int
) -> int:
    count = getattr(model, name, given)
    if count is None and kinds is not None and not isinstance(kinds, str):
        count = channels_of(kinds, n_dim)
    if count is None:
        raise ValueError(
            f"a {type(model).__name__} does not tell its {name}: give {name}, or one kind per field"
        )
    return count


def _frames(kinds: Mapping[str, str], channels: int) -> list[str]:
    """Kinds of `channels` channels, which are frames of the audited fields; components become vectors."""
    listed = list(kinds.values())
    if not listed or channels % len(listed):
        raise ValueError(
            f"{channels} channels are not frames of the audited fields {', '.join(kinds) or '(none)'}: "
            "give rep_in and rep_out"
        )
    of_frame: list[str] = []
    while listed:
        kind = listed.pop(0)
        if kind.startswith("vector"):
            if kind != "vector x" or listed[:1] != ["vector y"]:
                raise ValueError(
                    f"the components of vectors do not follow one another in {dict(kinds)}: give rep_in and "
                    "rep_out, and the model its fields in that order"
                )
            listed.pop(0)
            kind = "vector"
        of_frame.append(kind)
    return of_frame * (channels // len(kinds))
