"""Exported graphs agree with the model at other batch sizes and grids, normalisation included."""

import warnings

import pytest
import torch

from opflow import FNO, build, export


def fitted(n_modes, **options):
    model = FNO(n_modes, 2, 1, 6, n_layers=2, **options).eval()
    model.normalizer.set([1.0, -2.0], [2.0, 0.5], [3.0], [4.0], increment=True)
    return model


def relative_error(y, expected):
    return ((y - expected).norm() / expected.norm()).item()


OTHER_SIZES = {1: [(1, 9), (4, 31)], 2: [(1, 9, 32), (3, 17, 12)], 3: [(1, 9, 10, 12)]}


@pytest.mark.parametrize("n_dim, options", [(1, {}), (2, {"factorization": "tucker", "norm": "group_norm"})])
def test_pt2_agrees_on_other_grids(n_dim, options, tmp_path):
    model = fitted((8,) * n_dim, **options)
    export.to_pt2(model, tmp_path / "m.pt2", torch.randn(1, 2, *(12, 16)[:n_dim]))
    exported = export.load_pt2(tmp_path / "m.pt2")
    for batch, *grid in OTHER_SIZES[n_dim]:
        x = torch.randn(batch, 2, *grid)
        with torch.no_grad():
            assert relative_error(exported(x), model(x)) <= 1e-5


def onnx_agrees(model, n_dim, folder):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    export.to_onnx(model, folder / "m.onnx", torch.randn(1, 2, *(12, 16, 10)[:n_dim]))
    session = onnxruntime.InferenceSession(folder / "m.onnx")
    for batch, *grid in OTHER_SIZES[n_dim]:
        x = torch.randn(batch, 2, *grid)
        (y,) = session.run(None, {"x": x.numpy()})
        assert relative_error(torch.from_numpy(y), model.predict(x)) <= 1e-5


def test_onnx_agrees_on_other_grids(tmp_path):
    onnx_agrees(fitted((8, 8)), 2, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "n_dim, options",
    [
        (1, {"fno_skip": "identity", "non_linearity": "silu"}),
        (2, {"domain_padding": 0.25, "norm": "instance_norm"}),
        (2, {"factorization": "tucker", "rank": 0.5, "preactivation": True, "stabilizer": "tanh"}),
        (3, {"channel_mlp_skip": None}),
    ],
)
def test_onnx_agrees_for_many_options(n_dim, options, tmp_path):
    onnx_agrees(fitted((8,) * n_dim, **options), n_dim, tmp_path)


def test_float64_and_training_mode_survive(tmp_path):
    model = fitted((4,)).double().train()
    export.to_pt2(model, tmp_path / "m.pt2", torch.randn(2, 2, 8, dtype=torch.float64))
    assert model.training
    x = torch.randn(3, 2, 11, dtype=torch.float64)
    assert relative_error(export.load_pt2(tmp_path / "m.pt2")(x), model.eval()(x)) <= 1e-12


def test_the_exported_model_refuses_a_grid_that_is_too_coarse(tmp_path):
    export.to_pt2(fitted((8,)), tmp_path / "m.pt2", torch.randn(2, 2, 16))
    with pytest.raises((RuntimeError, AssertionError), match=r"shape\[2\]|9|8"):
        export.load_pt2(tmp_path / "m.pt2")(torch.randn(2, 2, 6))


def test_errors_name_what_does_not_fit(tmp_path):
    model = fitted((8, 8))
    with pytest.raises(ValueError, match=r"grid of \(16, 8\) points; a model with n_modes=\(8, 8\)"):
        export.to_pt2(model, tmp_path / "m.pt2", torch.randn(2, 2, 16, 8))
    with pytest.raises(ValueError, match="built for in_channels=2, got a tensor of shape"):
        export.to_pt2(model, tmp_path / "m.pt2", torch.randn(2, 3, 16, 16))
    with pytest.raises(FileNotFoundError, match="there is no file"):
        export.load_pt2(tmp_path / "missing.pt2")
    with pytest.raises(ValueError, match="computes sizes that a .pt2 file cannot hold"):
        export.to_pt2(fitted((4,), domain_padding=0.25), tmp_path / "m.pt2", torch.randn(2, 2, 16))


def test_what_onnx_cannot_express_is_an_error(tmp_path):
    pytest.importorskip("onnxscript")
    complex_model = FNO((4,), 1, 1, 4, n_layers=1, complex_data=True)
    with pytest.raises(ValueError, match="ONNX has no complex numbers"):
        export.to_onnx(complex_model, tmp_path / "m.onnx", torch.zeros(2, 1, 8, dtype=torch.complex64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = build("neuralop:FNO", n_modes=(4,), in_channels=1, out_channels=1, hidden_channels=4)
    with pytest.raises(ValueError, match="NeuralopModel (uses an operation that ONNX|cannot be traced)"):
        export.to_onnx(theirs, tmp_path / "m.onnx", torch.zeros(2, 1, 8))
