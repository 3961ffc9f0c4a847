"""Laws of fields on meshes: a flow with MINO at the nodes, and one with an FNO on a grid between them.

    python benchmarks/functional_mesh.py                  # both tasks, 5 CPU minutes of training per flow
    python benchmarks/functional_mesh.py --tasks plates   # one of them
    python benchmarks/functional_mesh.py --seconds 5 --samples 80 # a smoke test

plates  pressures of Darcy flow in random polygons with holes; permeability and source are hidden
wake    velocity and pressure past a cylinder of random place and radius

Every sample has a mesh of its own. Given are the mesh and the distances to the parts of its boundary; the FNO
has them on a regular grid, with the mask of the domain, its targets go on outside by the value of the nearest
node, and what it draws is brought back to the nodes. Both have the same number of parameters within 5 % and
the same CPU seconds. Compared are means of fields against cosines (opflow.metrics.cosine_means), by
quadrature at the nodes: sliced Wasserstein distance and maximum mean discrepancy of drawn from true fields on
the same meshes. The floor is that of other true fields on these meshes: of plates with fresh hidden fields;
past a cylinder the flow is what it is, the floor zero, and the relative L2 error is there too.

Each figure is a row of results.csv, the FNO's in the place of the peer.
"""

import argparse
import tempfile
from collections.abc import Callable

import harness
import numpy as np
from rectified import train

SOLVER = {"method": "midpoint", "n_steps": 8}
WIDTH, BATCH, CELLS = 8, 8, 40  # channels of MINO over 4, samples, grid points along the longer side
HIGHEST, SHARE = 10, 4  # half waves; one sample in so many is for the test


class Plates:
    """Darcy flow on polygons."""

    equation, options, domain = "polygon_darcy", {"size": 0.05}, ((0.0, 1.0), (0.0, 1.0))
    mino = {"radius": 0.12, "latent": (11, 11), "n_layers": 4}
    modes, length = (12, 12), 0.2

    @staticmethod
    def again(mesh, field, index: int):
        """Solve for the pressure `(channel, node)` with fresh permeability and source."""
        import torch

        from pde_data.equations.polygon_darcy import darcy
        from pde_data.equations.unstructured import generator, smooth_field

        first, second = (smooth_field(mesh.points, generator(1, index, stream)) for stream in (1, 2))
        problem = darcy(mesh, np.exp(first), 1 + second / 2, mesh.tags == 1)
        return torch.as_tensor(problem.solve(np.zeros(len(mesh.points))), dtype=field.dtype)[None]


class Wake:
    """Steady flow past a cylinder."""

    equation, options, domain = "cylinder_flow", {"size": 0.04}, ((0.0, 2.2), (0.0, 0.41))
    mino = {"radius": 0.15, "latent": (23, 5), "n_layers": 4, "domain": domain}
    modes, length = (16, 4), 0.1

    @staticmethod
    def again(mesh, field, index: int):
        """Return the field itself."""
        return field


TASKS = {"plates": Plates, "wake": Wake}


class Side:
    """A flow, its loss on a batch that it draws, and what it draws on test meshes: `(channel, node)` each."""

    def __init__(self, flow, loss: Callable, draw: Callable):
        self.flow, self.loss, self.draw = flow, loss, draw


def at_nodes(task, data, tests) -> Callable[[int], Side]:
    """MINO, of so many hidden channels over 4."""
    import torch

    from opflow.rectified import FunctionalFlow, GaussianProcess
    from opflow.training.generative import pairs_of
    from pde_data.mesh_dataset import collate

    side = max(high - low for low, high in task.domain)
    noise = GaussianProcess(length=task.length, nu=1.5, box=side + 4 * task.length)

    def build(width: int) -> Side:
        torch.manual_seed(0)
        network = {"class": "MINO", "config": {"hidden_channels": 4 * width, **task.mino}}
        channels, given = data.out_channels, len(data.boundary_parts)
        flow = FunctionalFlow(network, channels, noise, head="target", condition_channels=given)
        held: list = []  # batches with their geometries, made once

        def collated(subset, indices):
            batch = collate([subset[int(i)] for i in indices])
            return batch, flow.network.geometry(batch.coords, batch.weights)

        def loss():
            if not held:
                flow.fit_statistics(pairs_of(data))
                order = torch.randperm(len(data)).split(BATCH)
                held.extend(collated(data, part) for part in order)
            batch, geometry = held[int(torch.randint(len(held), ()))]
            return flow.loss(batch.y, batch.x[..., -given:], geometry, weights=batch.weights)

        def draw():
            found, generator = [], torch.Generator().manual_seed(0)
            for part in torch.arange(len(tests)).split(BATCH):
                batch, geometry = collated(tests, part)
                drawn = flow.sample(
                    len(part), geometry, condition=batch.x[..., -given:], seed=generator, **SOLVER
                )
                found += [u[m].T for u, m in zip(drawn.samples, batch.mask)]
            return found

        return Side(flow, loss, draw)

    return build


def on_grid(task, data, tests) -> Callable[[int], Side]:
    """FNO between the nodes, of so many hidden channels."""
    import torch
    from protocol.mesh_grid import Box, grid_to_nodes
    from protocol.pairs_scores import batches

    from opflow.rectified import FunctionalFlow, GaussianProcess

    box = Box.around([np.array(task.domain).T], CELLS)
    fields, given = (torch.stack(parts) for parts in zip(*(_gridded(data, i, box) for i in range(len(data)))))
    unseen = torch.stack([_gridded(tests, i, box)[1] for i in range(len(tests))])
    longest = max(high - low for low, high in task.domain)

    def build(width: int) -> Side:
        torch.manual_seed(0)
        network = {"class": "FNO", "config": {"n_modes": task.modes, "hidden_channels": width}}
        noise = GaussianProcess(length=task.length / longest, nu=1.5)
        channels = fields.shape[1]
        flow = FunctionalFlow(network, channels, noise, head="target", condition_channels=given.shape[1])
        flow.fit_normalizer(fields)
        next_batch = batches(0, fields, given, size=BATCH)

        def loss():
            u, condition, generator = next_batch()
            return flow.loss(u, condition, generator=generator)

        def draw():
            drawn = flow.sample(len(unseen), box.sizes, condition=unseen, seed=0, chunk=BATCH, **SOLVER)
            found = []
            for i, u in enumerate(drawn.samples):
                columns, weights = grid_to_nodes(tests.mesh(i).points, box)
                at = u.flatten(1)[:, torch.as_tensor(columns)]
                found.append((at * torch.as_tensor(weights, dtype=u.dtype)).sum(2))
            return found

        return Side(flow, loss, draw)

    return build


def _gridded(data, index: int, box):
    """Field `(channel, *grid)` that goes on outside, and distances and mask of a sample."""
    import torch
    from protocol.mesh_grid import nodes_to_grid
    from scipy.spatial import KDTree

    _, x, y, _ = data[index]
    mesh = data.mesh(index)
    matrix = nodes_to_grid(mesh, box)
    mask = np.diff(matrix.tocsr().indptr) > 0
    distances = matrix @ x[:, -len(data.boundary_parts) :].numpy()
    nearest = KDTree(mesh.points).query(box.points)[1]
    values = np.where(mask[:, None], matrix @ y.numpy(), y.numpy()[nearest])

    def shaped(u):
        return torch.as_tensor(u.T.reshape(-1, *box.sizes), dtype=torch.float32)

    return shaped(values), shaped(np.column_stack([distances, mask]))


def features(fields, tests, task, scale):
    """Means against cosines `(sample, number)`, each channel over its deviation."""
    import torch

    from opflow import metrics

    lengths = [high - low for low, high in task.domain]
    rows = []
    for i, u in enumerate(fields):
        coords, _, _, weights = tests[i]
        means = metrics.cosine_means(u[None] / scale[:, None], coords, weights, HIGHEST, lengths)
        rows.append(means.flatten())
    return torch.stack(rows)


def relative_error(fields, tests) -> float:
    """Mean over samples and channels of relative L2 errors, by quadrature at the nodes."""
    from opflow import metrics

    errors = []
    for i, u in enumerate(fields):
        _, _, y, weights = tests[i]
        each = weights.expand(len(u), -1)
        errors.append(metrics.relative_l2(u[:, None], y.T[:, None], weights=each).mean())
    return float(sum(errors)) / len(errors)


def compare(name: str, seconds: float, samples: int) -> None:
    """Train both flows of a task, and record their distances from the truth."""
    import torch
    from protocol.matching import count_parameters, match

    import pde_data
    from opflow import metrics

    task = TASKS[name]
    law = pde_data.EQUATIONS[task.equation].from_parameters(**task.options)
    with tempfile.TemporaryDirectory() as folder:
        path = pde_data.generate(law, f"{folder}/{name}.h5", samples=samples, processes=1)
        tested = samples // SHARE
        data, tests = (
            pde_data.MeshDataset(path, samples=numbers, distances=True)
            for numbers in (list(range(tested, samples)), list(range(tested)))
        )
        sides = {"MINO": at_nodes(task, data, tests), "FNO": on_grid(task, data, tests)}
        widths = match({k: lambda w, build=build: build(w).flow for k, build in sides.items()}, WIDTH)
        scale = torch.cat([y for _, _, y, _ in data]).std(0)
        truth = features([y.T for _, _, y, _ in tests], tests, task, scale)
        other = [task.again(tests.mesh(i), tests[i].y.T, i) for i in range(tested)]
        other, lot = features(other, tests, task, scale), torch.Generator().manual_seed(0)
        distances = {
            "SWD": lambda a, b: metrics.sliced_wasserstein(a, b, 256, generator=lot),
            "MMD": metrics.mmd,
        }
        floors = {k: d(other, truth) for k, d in distances.items()}
        found, sizes = {}, {}
        for side, build in sides.items():
            made = build(widths[side])
            steps = train(made.flow, made.loss, seconds)
            sizes[side] = f"{side} {count_parameters(made.flow):,} parameters, {steps} steps"
            with torch.no_grad():
                fields = made.draw()
            drawn = features(fields, tests, task, scale)
            found[side] = {k: d(drawn, truth) for k, d in distances.items()}
            if task is Wake:
                found[side]["relative L2"] = relative_error(fields, tests)
                floors["relative L2"] = 0.0
        for k in found["MINO"]:
            ours, theirs = found["MINO"][k], found["FNO"][k]
            claim = f"law of fields on meshes, {name}, {seconds:g} CPU s, {' against '.join(sizes.values())}"
            claim += f": {k}, floor {floors[k]:.4g}"
            ratio = f"{theirs / ours:.3f}" if ours else ""
            harness.record(claim, f"{ours:.4g}", f"{theirs:.4g}", ratio, threads=1)
            print(f"{claim}: {ours:.4g} against {theirs:.4g}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=tuple(TASKS), default=tuple(TASKS))
    parser.add_argument("--seconds", type=float, default=300.0, help="CPU seconds of training per flow")
    parser.add_argument("--samples", type=int, default=1024, help="samples, a quarter of them for the test")
    options = parser.parse_args()
    for name in options.tasks:
        compare(name, options.seconds, options.samples)


if __name__ == "__main__":
    harness.pin_threads(1)
    main()
