"""Bulk evaluation: what a vmap gives, in chunks of one shape, by one compilation, in bounded memory, in order."""

import functools
import logging
import os
import tracemalloc
import types

import equinox as eqx
import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dspsx
from dspsx import _chunks, bulk, testing
from dspsx._model import Scalar, param
from dspsx.bulk import predict, predict_and_gradient, predict_jacobian


class Neural(dspsx.DustLaw):
    net: eqx.nn.MLP
    av: Scalar = param(0.5, bounds=(0.0, 5.0), unit="mag", doc="scale of the attenuation")

    def attenuation(self, wave):
        x = jnp.log(wave / 5500.0)[:, None]
        return self.av * jax.nn.softplus(jax.vmap(self.net)(x)[:, 0])


class Quick(dspsx.StarFormationHistory):
    """Ages in closed form: what is tested here is not the histories, whose quadrature takes seconds to compile."""

    lg_mass_formed: Scalar = param(10.0, bounds=(5.0, 13.0), unit="log10 Msun", doc="mass formed")
    tau: Scalar = param(1.0, bounds=(0.1, 10.0), unit="dex", doc="rise with log age")
    age: Scalar = param(5.0, bounds=(0.1, 14.0), unit="Gyr", doc="not used")

    def sfr(self, t):
        return 10 ** (self.lg_mass_formed - 10.0) * jnp.ones_like(t)

    def age_weights(self, lg_age, t_obs):
        return 10**self.lg_mass_formed * jax.nn.softmax(lg_age * self.tau)


@functools.cache
def _one(dtype):
    return testing.fake_galaxy(sfh=Quick(), dust=dspsx.PowerLawDust())


def make(n):
    """A batch in which three parameters have an axis, and the others are shared."""
    rng = np.random.default_rng(n)
    values = rng.uniform(0.1, 2.0, n), rng.uniform(9.0, 11.0, n), rng.uniform(0.1, 1.0, n)
    values = tuple(jnp.asarray(x, float) for x in values)
    return eqx.tree_at(lambda g: (g.dust.av, g.sfh.lg_mass_formed, g.redshift), _one(jnp.zeros(()).dtype.name), values)


def cheap(galaxy):
    """Two numbers that depend on parameters with an axis and on a shared one."""
    return jnp.stack([galaxy.dust.av * galaxy.redshift, galaxy.dust.av**2 * galaxy.sfh.tau])


def single(galaxy):
    return cheap(galaxy).sum()


def named(tree):
    return {name: value for name, (_, value) in dspsx.named_parameters(tree).items()}


def direct(batch, function):
    return np.asarray(eqx.filter_jit(eqx.filter_vmap(function, in_axes=(dspsx.batch_axes(batch),)))(batch))


def derivatives(batch, function, where, mode):
    """Galaxy by galaxy, by JAX alone."""

    @jax.jit
    def one(theta, rest):
        return mode(lambda t: function(dspsx.combine(t, rest, physical=True)))(theta)

    n = batch.redshift.shape[0]
    trees = [one(*dspsx.partition(dspsx.take(batch, i), where, physical=True)) for i in range(n)]
    return jax.tree.map(lambda *x: np.stack(x), *trees)


def same(a, b, rtol=1e-5):
    assert named(a).keys() == named(b).keys()
    for name, x in named(a).items():
        assert isinstance(x, np.ndarray)
        np.testing.assert_allclose(x, named(b)[name], rtol=rtol, atol=1e-30, err_msg=name)


@pytest.fixture
def log(caplog):
    """What JAX traces and compiles."""
    caplog.set_level(logging.WARNING)
    with jax.log_compiles(True):
        yield lambda: [
            r.getMessage() for r in caplog.records if "ompiling" in r.getMessage() or "tracing" in r.getMessage()
        ]


@pytest.fixture
def sizes(monkeypatch):
    """The sizes of the chunks of the runs of a test."""
    seen, run = [], _chunks.go_through
    monkeypatch.setattr(_chunks, "go_through", lambda *args: (seen.append(args[2]), run(*args))[1])
    return seen


def test_magnitudes_are_those_of_a_vmap(precision):
    batch = make(7)
    magnitudes = predict(batch, batch_size=4)
    assert isinstance(magnitudes, np.ndarray) and magnitudes.shape == (7, 3) and magnitudes.dtype == precision
    rtol = 1e-12 if precision == "float64" else 3e-6
    np.testing.assert_allclose(magnitudes, direct(batch, lambda g: g.magnitudes()), rtol=rtol)


def test_derivatives_of_magnitudes_are_those_of_a_vmap(x64):
    batch, where = make(3), lambda g: (g.dust.av, g.sfh.tau)
    values, jacobian = predict_jacobian(batch, where=where, batch_size=2)
    assert (
        values.shape == (3, 3)
        and jacobian.ssp.flux is None
        and jacobian.sfh.age is None
        and jacobian.sfh.tau.shape == (3, 3)
    )
    same(jacobian, derivatives(batch, lambda g: g.magnitudes(), where, jax.jacfwd), rtol=1e-9)


@pytest.mark.parametrize("size", [1, 3, 7, 10, "auto"])
def test_chunks_that_do_not_divide_the_batch(size):
    batch = make(7)
    np.testing.assert_allclose(predict(batch, cheap, batch_size=size), direct(batch, cheap), rtol=1e-6)


def test_what_may_be_methods_functions_and_tuples_or_dicts_of_them():
    batch = make(5)
    out = predict(batch, ("mass_formed", cheap, "t_obs", lambda g: {"a": g.redshift, "b": (g.dust.av,)}), batch_size=4)
    assert isinstance(out, tuple) and [np.shape(x) for x in out[:3]] == [(5,), (5, 2), (5,)]
    np.testing.assert_allclose(out[0], 10**batch.sfh.lg_mass_formed, rtol=1e-4)
    np.testing.assert_array_equal(out[3]["a"], batch.redshift)
    np.testing.assert_array_equal(out[3]["b"][0], batch.dust.av)
    out = predict(batch, {"t": "t_obs", "again": "t_obs", 3: cheap}, batch_size=4)
    assert list(out) == ["t", "again", 3]
    np.testing.assert_array_equal(out["t"], out["again"])


@pytest.mark.parametrize("function", [single, lambda g: jnp.log(g.rest_sed().sum())])
def test_gradient(function, x64):
    batch = make(5)
    values, gradient = predict_and_gradient(batch, function, batch_size=2)
    np.testing.assert_allclose(values, direct(batch, function), rtol=1e-6)
    assert named(gradient).keys() == {n for n, (info, _) in dspsx.named_parameters(batch).items() if info.free}
    same(gradient, derivatives(batch, function, None, jax.grad), rtol=1e-9)


def test_gradient_of_a_method_by_a_shared_and_a_fixed_parameter(x64):
    batch = make(5)
    where = lambda g: (g.cosmology.h, g.redshift, g.sfh.lg_mass_formed)  # noqa: E731
    values, gradient = predict_and_gradient(batch, "t_obs", where=where)
    np.testing.assert_allclose(values, direct(batch, lambda g: g.t_obs), rtol=1e-12)
    np.testing.assert_allclose(gradient.cosmology.h, -values / batch.cosmology.h, rtol=1e-2)  # but for radiation
    same(gradient, derivatives(batch, lambda g: g.t_obs, where, jax.grad))


@pytest.mark.parametrize(
    "where", [lambda g: g.dust.av, lambda g: (g.dust, g.sfh, g.redshift)], ids=["forward", "reverse"]
)
def test_jacobian_in_either_mode(where):
    batch = make(5)
    values, jacobian = predict_jacobian(batch, cheap, where=where, batch_size=3)
    np.testing.assert_allclose(values, direct(batch, cheap), rtol=1e-6)
    assert jacobian.dust.av.shape == (5, 2)
    same(jacobian, derivatives(batch, cheap, where, jax.jacrev))


def test_jacobian_of_a_matrix_by_a_table(x64):
    history = dspsx.TabulatedSFH(np.linspace(0.1, 13.0, 6), np.ones(6))
    rates = jnp.asarray(np.random.default_rng(0).uniform(0.5, 2.0, (4, 6)))
    batch = eqx.tree_at(lambda s: s.sfr_table, history, rates)
    outer = lambda s: jnp.outer(s.sfr_table, s.sfr_table[:2])  # noqa: E731
    values, jacobian = predict_jacobian(batch, outer, where=lambda s: s.sfr_table)
    assert values.shape == (4, 6, 2) and jacobian.sfr_table.shape == (4, 6, 2, 6)
    np.testing.assert_allclose(jacobian.sfr_table[:, 0, 1, 0], rates[:, 1])


def test_a_custom_vjp_is_differentiated_in_reverse():
    @jax.custom_vjp
    def double(x):
        return 2.0 * x

    double.defvjp(lambda x: (2.0 * x, None), lambda _, ct: (2.0 * ct,))
    _, jacobian = predict_jacobian(make(3), lambda g: double(g.dust.av) * jnp.ones(4), where=lambda g: g.dust.av)
    np.testing.assert_allclose(jacobian.dust.av, np.full((3, 4), 2.0))


def test_one_trace_for_all_chunks_and_all_batches():
    traces = []

    def counted(galaxy):
        traces.append(1)
        return single(galaxy)

    for n in (10, 3, 25):
        predict(make(n), counted, batch_size=4)
    assert len(traces) == 1
    for n in (40, 100, 60):
        predict(make(n), counted)  # 128 in a chunk
    assert len(traces) == 2
    for n in (5, 9):
        predict_and_gradient(make(n), counted, where=lambda g: g.dust, batch_size=4)
    assert len(traces) == 3


def test_a_method_is_compiled_once(log):
    predict(make(5), ("t_obs", "mass_formed"), batch_size=4)
    assert any("Compiling" in line for line in log())
    first = len(log())
    batches = [make(n) for n in (2, 17)]
    before = len(log())
    for batch in batches:
        predict(batch, ("t_obs", "mass_formed"), batch_size=4)
    assert before >= first and not [line for line in log()[before:] if "jit(one)" in line or "for jit" in line]


def test_data_held_by_a_module_are_not_compiled_in():
    traces = []

    class Distance(eqx.Module):
        target: jax.Array

        def __call__(self, galaxy):
            traces.append(1)
            return ((cheap(galaxy) - self.target) ** 2).sum()

    batch = make(6)
    for x in (0.0, 1.0, 2.0):
        target = jnp.full(2, x)
        out = predict(batch, Distance(target), batch_size=4)
        np.testing.assert_allclose(out, ((direct(batch, cheap) - x) ** 2).sum(1), rtol=1e-5)
    assert len(traces) == 1


def test_a_batch_of_numpy_arrays_of_any_float():
    batch = make(5)
    host = jax.tree.map(lambda x: np.asarray(x, np.float64) if np.ndim(x) == 1 and len(x) == 5 else x, batch)
    assert isinstance(host.dust.av, np.ndarray)
    out = predict(host, cheap, batch_size=4)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, predict(batch, cheap, batch_size=4), rtol=1e-6)


def test_the_automatic_size_shrinks_with_the_need_of_a_galaxy(sizes, monkeypatch):
    predict(make(3), single)
    predict(make(100), single)
    predict(make(3000), single)
    assert sizes == [8, 128, 512]
    wide = lambda g: (g.dust.av * jnp.arange(5_000.0)).cumsum().sum()  # noqa: E731
    np.testing.assert_allclose(predict(make(300), wide), direct(make(300), wide), rtol=1e-4)
    assert sizes[3] == 128  # 128 x 5,000 x 4 bytes are under 4 MB, 256 are not
    batch = make(300)
    # a grid so large that it takes as many galaxies to be worth reading it
    monkeypatch.setattr(_chunks, "_OF_COMMON", 128 * 20_000 / batch.ssp.flux.nbytes)
    monkeypatch.setattr(_chunks, "_CPU", (512, 1))
    predict(batch, wide)
    monkeypatch.setattr(_chunks, "_OF_COMMON", 0.0)
    predict(batch, single)
    assert sizes[4:] == [128, 64]


@pytest.mark.parametrize(("stats", "budget"), [({"bytes_limit": 80 * 2**30}, 80 * 2**24), (None, 2**27)])
def test_the_automatic_size_on_an_accelerator(stats, budget, monkeypatch, sizes):
    device = types.SimpleNamespace(platform="gpu", memory_stats=lambda: stats)
    limits = _chunks._limits
    assert limits(device) == (16384, budget)
    monkeypatch.setattr(_chunks, "_limits", lambda _: limits(device))
    np.testing.assert_allclose(predict(make(5000), single), direct(make(5000), single), rtol=1e-6)
    assert sizes == [16384]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("buffer", [1, 2**26])
def test_the_order_of_evaluation_does_not_show(stream, buffer, monkeypatch, tmp_path):
    batch = make(23)
    expected = direct(batch, cheap)
    shuffled = np.random.default_rng(3).permutation(23)
    seen = []
    chunk = _chunks.part
    monkeypatch.setattr(_chunks, "part", lambda *args: (seen.append(args[1]), chunk(*args))[1])
    monkeypatch.setattr(bulk, "_order", lambda batch, n: shuffled)
    monkeypatch.setattr(_chunks, "BUFFER", buffer)
    out = predict(batch, cheap, batch_size=4, output=tmp_path / "out.h5" if stream else None)
    if stream:
        with h5py.File(out) as file:
            out = file["value"][()]
    np.testing.assert_allclose(out, expected, rtol=1e-6)
    if buffer > 1:
        rows = [x for x in seen if isinstance(x, np.ndarray)]  # not the slices that the program was traced with
        np.testing.assert_array_equal(np.concatenate(rows), shuffled)


def test_streamed_results_are_those_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(_chunks, "BUFFER", 200)  # several blocks
    batch = make(23)
    what = {"magnitudes": "magnitudes", "own": cheap, "tree": lambda g: {"z": g.redshift}}
    path = predict(batch, what, batch_size=4, output=str(tmp_path / "out.h5"))
    assert path == tmp_path / "out.h5" and [p.name for p in tmp_path.iterdir()] == ["out.h5"]
    expected = predict(batch, what, batch_size=4)
    with h5py.File(path) as file:
        assert set(file) == {"magnitudes", "own", "tree"}
        np.testing.assert_array_equal(file["magnitudes"][()], expected["magnitudes"])
        np.testing.assert_array_equal(file["own"][()], expected["own"])
        np.testing.assert_array_equal(file["tree/z"][()], expected["tree"]["z"])
        assert file.attrs["dspsx"] == dspsx.__version__ and file.attrs["n_galaxies"] == 23
        assert list(file.attrs["bands"]) == list(batch.filters.names)
    path = predict(batch, ("t_obs", cheap), batch_size=4, output=tmp_path / "out.h5")
    with h5py.File(path) as file:
        assert set(file) == {"t_obs", "1"} and "bands" not in file.attrs


def test_streamed_derivatives(tmp_path):
    batch, where = make(7), lambda g: (g.dust, g.sfh.tau)
    _, gradient = predict_and_gradient(batch, single, where=where, batch_size=4)
    path = predict_and_gradient(batch, single, where=where, batch_size=4, output=tmp_path / "gradient.h5")
    with h5py.File(path) as file:
        assert set(file["gradient"]) == {"dust.av", "dust.slope", "sfh.tau"}
        np.testing.assert_array_equal(file["gradient/dust.av"][()], gradient.dust.av)
        np.testing.assert_allclose(file["value"][()], direct(batch, single), rtol=1e-6)
    path = predict_jacobian(batch, cheap, where=where, batch_size=4, output=tmp_path / "jacobian.h5")
    with h5py.File(path) as file:
        assert file["jacobian/sfh.tau"].shape == (7, 2) and file["value"].shape == (7, 2)


def test_every_thread_has_the_settings_of_the_caller(monkeypatch):
    """They are a thread's own in JAX: precision, and whether a NaN is an error."""
    monkeypatch.setattr(_chunks, "_workers", lambda *_: 3)
    with jax.enable_x64(True), jax.default_matmul_precision("float32"):
        batch = make(100)
        seen = lambda g: jnp.asarray(1.0) / 3.0 * g.dust.av  # noqa: E731
        found = predict(batch, seen, batch_size=2)
        np.testing.assert_allclose(found, np.asarray(batch.dust.av) / 3.0, rtol=1e-15)
        traced = lambda g: g.dust.av * float(jax.config.jax_default_matmul_precision == "float32")  # noqa: E731
        np.testing.assert_array_equal(predict(batch, traced, batch_size=2), batch.dust.av)
    batch = make(100)
    nan = lambda g: jnp.log(-1.0 - g.dust.av)  # noqa: E731
    assert np.isnan(predict(batch, nan, batch_size=2)).all()
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        predict(batch, nan, batch_size=2)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_what_was_there(error, tmp_path, monkeypatch):
    batch, calls, chunk = make(40), [], _chunks.part
    predict(batch, cheap, batch_size=4, output=tmp_path / "old.h5")

    def interrupted(*args):
        calls.append(1)
        if len(calls) > 4:
            raise error
        return chunk(*args)

    before = (tmp_path / "old.h5").read_bytes()
    monkeypatch.setattr(_chunks, "part", interrupted)
    monkeypatch.setattr(_chunks, "_MOST_CHUNKS", 1)  # one in each call of the program
    for name in ("old.h5", "new.h5"):
        calls.clear()
        with pytest.raises(error):
            predict(batch, cheap, batch_size=4, output=tmp_path / name)
        assert len(calls) >= 5  # of ten, by several threads
    assert [p.name for p in tmp_path.iterdir()] == ["old.h5"] and (tmp_path / "old.h5").read_bytes() == before


def test_streaming_holds_a_buffer_only(tmp_path, monkeypatch):
    n = 100_000
    batch = make(n)
    ten = lambda g: g.dust.av * jnp.arange(100.0)  # noqa: E731
    monkeypatch.setattr(_chunks, "BUFFER", 2**20)
    predict(make(5), ten, batch_size=1024)
    tracemalloc.start()
    try:
        path = predict(batch, ten, batch_size=1024, output=tmp_path / "out.h5")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 4e7 and peak < 6e6
    with h5py.File(path) as file:
        np.testing.assert_allclose(file["value"][:, 50], 50 * np.asarray(batch.dust.av), rtol=1e-6)


def test_a_network_is_shared_or_one_of_each_galaxy():
    galaxies = [
        testing.fake_galaxy(dust=Neural(net=eqx.nn.MLP(1, 1, 4, 1, key=jax.random.key(i)), av=0.3 + i))
        for i in range(3)
    ]
    function = lambda g: g.dust.transmission(g.ssp.wave)  # noqa: E731
    expected = np.stack([function(g) for g in galaxies])
    np.testing.assert_allclose(predict(dspsx.stack(galaxies), function), expected, rtol=1e-5)

    net = galaxies[0].dust.net
    common = [dspsx.replace(g, lambda g: g.dust, Neural(net=net, av=g.dust.av)) for g in galaxies]
    batch = eqx.tree_at(lambda g: g.dust.net, dspsx.stack(common), net)
    shared = lambda g: g.dust.net  # noqa: E731
    expected = np.stack([function(g) for g in common])
    np.testing.assert_allclose(predict(batch, function, shared=shared), expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"dust\.net\.layers\.0\.weight \(4, 1\).*shared=lambda"):
        predict(batch, function)
    total = lambda g: function(g).sum()  # noqa: E731
    _, gradient = predict_and_gradient(batch, total, where=lambda g: (g.dust.net, g.dust.av), shared=shared)
    weight = gradient.dust.net.layers[0].weight
    assert weight.shape == (3, 4, 1) and gradient.dust.net.activation is None
    alone = eqx.filter_grad(lambda net, g: total(eqx.tree_at(shared, g, net)))(net, common[1])
    np.testing.assert_allclose(weight[1], alone.layers[0].weight, rtol=1e-4, atol=1e-6)


def test_progress_shows_when_asked_or_after_two_seconds(capsys, monkeypatch):
    batch = make(9)
    predict(batch, cheap, batch_size=4)
    predict(batch, cheap, batch_size=4, progress=False)
    assert capsys.readouterr() == ("", "")
    predict(batch, cheap, batch_size=4, progress=True)
    assert "9/9" in capsys.readouterr().err
    monkeypatch.setitem(__import__("sys").modules, "tqdm", None)
    predict(batch, cheap, batch_size=4)
    with pytest.raises(ImportError, match=r"predict: progress=True needs tqdm: pip install 'dspsx\[plot\]'"):
        predict(batch, cheap, batch_size=4, progress=True)


@pytest.mark.parametrize(
    ("batch", "options", "error", "match"),
    [
        (lambda: _one("float32"), {}, ValueError, "predict: this GalaxySEDModel is one galaxy, not a batch.*stack"),
        (lambda: [1, 2], {}, TypeError, "predict: expected a batch of galaxies.*got a list"),
        (lambda: make(0), {}, ValueError, "predict: the batch holds no galaxies"),
        (lambda: make(3), {"what": "magnitude"}, ValueError, "no method 'magnitude'. Nearest: magnitudes"),
        (lambda: make(3), {"what": "_light"}, ValueError, "no method '_light'"),
        (lambda: make(3), {"what": ("t_obs", "zzz")}, ValueError, "no method 'zzz'. Nearest: .*magnitudes"),
        (lambda: make(3), {"what": {1: cheap, "1": cheap}}, ValueError, r"a name of its own; got \[1, '1'\]"),
        (
            lambda: make(3),
            {"what": {"a": cheap, "a.b": cheap, "a/b": cheap}, "output": "x.h5"},
            ValueError,
            "'a' and 'a/b'",
        ),
        (lambda: make(3), {"what": {"a": cheap, "/a": cheap}, "output": "x.h5"}, ValueError, "'a' and '/a'"),
        (lambda: make(3), {"what": 3}, TypeError, "expected the name of a method or a function of one galaxy; got 3"),
        (lambda: make(3), {"batch_size": 0}, ValueError, 'batch_size must be a positive integer or "auto"; got 0'),
        (lambda: make(3), {"batch_size": -1024}, ValueError, "batch_size must be a positive integer"),
        (lambda: make(3), {"batch_size": True}, ValueError, "batch_size must be a positive integer"),
        (lambda: make(3), {"batch_size": "all"}, ValueError, "batch_size must be a positive integer"),
        (lambda: make(3), {"output": "no/such/folder/a.h5"}, FileNotFoundError, "no folder"),
        (lambda: make(3), {"output": "."}, IsADirectoryError, "predict: output must be the name of a file"),
        (
            lambda: make(3),
            {"shared": lambda g: g.dust},
            ValueError,
            r"got dust\.av \(3,\)\. Name.*nothing that it does not",
        ),
    ],
)
def test_errors(batch, options, error, match):
    with pytest.raises(error, match=match):
        predict(batch(), **({"what": cheap} | options))


def test_leading_axes_that_disagree_are_named():
    batch = eqx.tree_at(lambda g: g.dust.av, make(4), jnp.ones(5))
    with pytest.raises(ValueError, match=r"predict: .*sfh\.lg_mass_formed \(4,\), dust\.av \(5,\), redshift \(4,\)"):
        predict(batch, cheap)
    batch = eqx.tree_at(lambda g: g.dust.av, make(4), jnp.ones((4, 2)))
    with pytest.raises(ValueError, match=r"predict_jacobian: .*got dust\.av \(4, 2\)\."):
        predict_jacobian(batch, cheap)


def test_errors_of_derivatives():
    batch = make(3)
    with pytest.raises(
        ValueError, match=r"one number for a galaxy; it gives an array of shape \(2,\).*predict_jacobian"
    ):
        predict_and_gradient(batch, cheap)
    with pytest.raises(ValueError, match="it gives a dict"):
        predict_and_gradient(batch, lambda g: {"a": single(g)})
    with pytest.raises(TypeError, match="predict_jacobian: `what` must give one array for a galaxy; it gives a tuple"):
        predict_jacobian(batch, lambda g: (single(g), single(g)))
    with pytest.raises(TypeError, match="predict_jacobian: whole numbers have no derivatives; `what` gives int32"):
        predict_jacobian(batch, lambda g: (g.redshift > 0).astype(jnp.int32))
    with pytest.raises(TypeError, match="predict_and_gradient: a whole number has no gradient"):
        predict_and_gradient(batch, lambda g: (g.redshift > 0).astype(jnp.int32))
    with pytest.raises(TypeError, match="predict_and_gradient: `where` chose data"):
        predict_and_gradient(batch, single, where=lambda g: g.ssp.flux)
    with pytest.raises(ValueError, match="predict_jacobian: no free parameter was chosen"):
        predict_jacobian(batch, cheap, where=lambda g: g.filters)
    with pytest.raises(
        ValueError, match=r"predict_and_gradient: GalaxySEDModel has no method 'mass'\. Nearest: mass_formed"
    ):
        predict_and_gradient(batch, "mass")


def test_a_traced_batch_is_refused():
    with pytest.raises(TypeError, match="predict: the batch is being traced"):
        eqx.filter_jit(lambda b: predict(b, cheap))(make(3))


def test_the_gradient_never_holds_a_spectral_cube(monkeypatch):
    """No array of the program has axes of galaxy, age and wavelength: contractions are matrix products."""
    largest, measure = [], _chunks._largest
    monkeypatch.setattr(_chunks, "_largest", lambda *args: (largest.append(measure(*args)), largest[-1])[1])
    monkeypatch.setattr(_chunks, "go_through", lambda *args: None)  # traced only
    batch = make(60)
    predict_and_gradient(batch, lambda g: g.fluxes().sum(), where=lambda g: (g.sfh, g.dust))
    _, n_age, n_wave = batch.ssp.flux.shape
    assert 0 < max(largest) < 128 * n_age * n_wave * 4


def test_redshifts_that_no_galaxy_has_are_told():
    batch = dspsx.stack([testing.fake_galaxy()] * 3)
    for value in (-0.1, np.nan, 21.0):
        odd = eqx.tree_at(lambda g: g.redshift, batch, batch.redshift.at[1].set(value))
        with pytest.raises(ValueError, match=rf"predict: redshift {value:g} is outside .*1 of 3 galaxies"):
            dspsx.predict(odd, "magnitudes", progress=False)


def test_as_many_threads_as_there_is_memory_for():
    (device,) = jnp.zeros(()).devices()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert _chunks._workers(device, 2**22) == min(cores, 8)
    assert _chunks._workers(device, 2**28) == 1
