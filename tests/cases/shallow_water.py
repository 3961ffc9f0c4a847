import numpy as np
from scipy.integrate import quad

from pde_data.equations import simulate
from pde_data.equations.shallow_water import ShallowWater
from pde_data.sphere import SphereGrid
from tests.cases import EquationCase, Exact, temporal_order

GRAVITY, RADIUS, ROTATION = 9.80616, 6.37122e6, 7.292e-5
DAY = 86400.0


def points(grid: SphereGrid) -> tuple[np.ndarray, np.ndarray]:
    """Latitude and longitude of each point, in radians."""
    return tuple(np.meshgrid(*(np.deg2rad(x) for x in grid.coordinates), indexing="ij"))


def williamson2(grid: SphereGrid, tilt: float, dtype: type = np.float64) -> dict[str, np.ndarray]:
    """Solid rotation about a tilted axis: case 2 of Williamson et al., J. Comput. Phys. 102 (1992)."""
    theta, lam = points(grid)
    alpha, u0 = np.deg2rad(tilt), 2 * np.pi * RADIUS / (12 * DAY)
    sine = np.sin(theta) * np.cos(alpha) - np.cos(lam) * np.cos(theta) * np.sin(alpha)
    fields = {
        "height": (2.94e4 - (RADIUS * ROTATION * u0 + u0**2 / 2) * sine**2) / GRAVITY,
        "u": u0 * (np.cos(theta) * np.cos(alpha) + np.cos(lam) * np.sin(theta) * np.sin(alpha)),
        "v": -u0 * np.sin(lam) * np.sin(alpha) * np.ones_like(theta),
    }
    return {name: values[None].astype(dtype) for name, values in fields.items()}


def galewsky(grid: SphereGrid, bump: float = 120.0) -> dict[str, np.ndarray]:
    """The jet of Galewsky et al., Tellus A 56 (2004), eq. 2-4, its height by quadrature of the balance."""
    south, north = np.pi / 7, np.pi / 2 - np.pi / 7

    def wind(x: float) -> float:
        inside = south < x < north
        return 80 * np.exp(1 / ((x - south) * (x - north)) + 4 / (north - south) ** 2) if inside else 0.0

    def slope(x: float) -> float:
        return -RADIUS * wind(x) * (2 * ROTATION * np.sin(x) + np.tan(x) * wind(x) / RADIUS) / GRAVITY

    theta, lam = points(grid)
    latitudes = theta[:, 0]
    edges = np.clip([south, *latitudes], south, north)
    steps = [quad(slope, a, b, epsabs=1e-10, epsrel=1e-13)[0] for a, b in zip(edges, edges[1:])]
    height = np.cumsum(steps)
    height += 1e4 - (height * grid.weights[0]).sum() / 2
    u = np.array([wind(x) for x in latitudes])
    hill = bump * np.cos(theta) * np.exp(-((np.pi / 4 - theta) ** 2) * 15)
    hill *= np.exp(-(((lam - np.pi) * 3) ** 2))
    return {
        "height": (height[:, None] + hill)[None],
        "u": (u[:, None] + 0 * lam)[None],
        "v": np.zeros((1, *grid.sizes)),
    }


def steady(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Five days of Williamson's case 2 at 37 degrees, in steps of an hour."""
    grid = ShallowWater(resolution=32).grid
    first = williamson2(grid, 37.0, dtype)
    settings = {"tilt": 37.0, "mean_depth": 2400.0, "hyperdiffusion": None, "dt": 3600.0}
    found = simulate("shallow_water", first, [5 * DAY], **settings)
    return found["height"], first["height"][:, None]


SMALL = {"resolution": 32, "t_end": DAY / 2, "hyperdiffusion": None}

CASE = EquationCase(
    ShallowWater(records=2, **SMALL),
    ShallowWater(records=2, flow="jet", **SMALL),
    (Exact("williamson2", steady, {np.float64: 1e-10, np.float32: 1e-5}),),
    (temporal_order(ShallowWater(**SMALL), steps=(8, 16, 32), finest=128),),
    drift={"mean_depth": 1e-14, "energy": 1e-6, "potential_enstrophy": 1e-4},
    needs="torch_harmonics",
)
