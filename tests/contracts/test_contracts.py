"""What every ingredient must satisfy. Classes are found through `__subclasses__`: a new one without an entry here fails."""

import abc
import inspect
import io
import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dspsx
from dspsx import testing
from dspsx._model import Parameter, infos, parameters_of

T = np.linspace(0.3, 13.7, 25)


def everything():
    """A galaxy with all that a galaxy can have."""
    return testing.fake_galaxy(
        sfh=dspsx.WithBurst(),
        metallicity=dspsx.AgeCorrelatedMDF(),
        dust=dspsx.PartialCover(dspsx.CharlotFall00(dspsx.Salim18())),
        dust_emission=dspsx.Casey12(),
        lines=dspsx.NebularLines(testing.fake_ssp()),
        igm=dspsx.DampingWing(),
        foreground=dspsx.Calzetti00(av=0.1),
    )


#: How to build every concrete ingredient. Parameters take their defaults.
BUILD = {
    "CCM89": dspsx.CCM89,
    "Fitzpatrick99": dspsx.Fitzpatrick99,
    "Gordon03LMC": dspsx.Gordon03LMC,
    "Gordon03SMC": dspsx.Gordon03SMC,
    "Gordon23": dspsx.Gordon23,
    "ODonnell94": dspsx.ODonnell94,
    "AgeCorrelatedMDF": dspsx.AgeCorrelatedMDF,
    "BurstSFH": dspsx.BurstSFH,
    "Calzetti00": dspsx.Calzetti00,
    "Casey12": dspsx.Casey12,
    "CharlotFall00": dspsx.CharlotFall00,
    "ConstantSFH": dspsx.ConstantSFH,
    "ContinuitySFH": dspsx.ContinuitySFH,
    "Cosmology": dspsx.Cosmology,
    "DeltaMDF": dspsx.DeltaMDF,
    "DampingWing": dspsx.DampingWing,
    "DelayedTauSFH": dspsx.DelayedTauSFH,
    "DiffmahHalo": dspsx.DiffmahHalo,
    "DirichletSFH": dspsx.DirichletSFH,
    "DraineLi07": lambda: dspsx.DraineLi07(table=testing.fake_dust_table()),
    "DoublePowerLawSFH": dspsx.DoublePowerLawSFH,
    "ExponentialMDF": dspsx.ExponentialMDF,
    "ExponentialSFH": dspsx.ExponentialSFH,
    "DiffstarSFH": dspsx.DiffstarSFH,
    "GalaxySEDModel": testing.fake_galaxy,
    "GalaxySEDModel(everything)": everything,
    "GaussianSFH": dspsx.GaussianSFH,
    "ImfMassLoss": dspsx.ImfMassLoss,
    "Inoue14": dspsx.Inoue14,
    "KriekConroy13": dspsx.KriekConroy13,
    "LognormalMDF": dspsx.LognormalMDF,
    "LognormalMDF(dsps)": lambda: dspsx.LognormalMDF(scheme="dsps"),
    "LognormalMDF(gaussian)": lambda: dspsx.LognormalMDF(kernel="gaussian"),
    "LognormalSFH": dspsx.LognormalSFH,
    "Madau95": dspsx.Madau95,
    "MassMetallicity": dspsx.MassMetallicity,
    "MassMetallicity(formed)": lambda: dspsx.MassMetallicity(when="formed"),
    "NebularLines": lambda: dspsx.NebularLines(testing.fake_ssp()),
    "NebularLines(lines)": lambda: dspsx.NebularLines(testing.fake_ssp(), continuum=False),
    "NebularLines(gas)": lambda: dspsx.NebularLines(testing.fake_ssp(), tied=False),
    "NoDust": dspsx.NoDust,
    "Noll09": dspsx.Noll09,
    "NormalisedSFH": dspsx.NormalisedSFH,
    "PartialCover": dspsx.PartialCover,
    "PowerLawDust": dspsx.PowerLawDust,
    "Salim18": dspsx.Salim18,
    "SumSFH": dspsx.SumSFH,
    "TabulatedMassLoss": lambda: dspsx.TabulatedMassLoss(
        [-4.0, -2.0], [-3.0, 0.0, 1.2], [[1.0, 0.7, 0.5], [1.0, 0.8, 0.6]]
    ),
    "TabulatedMetallicity": lambda: dspsx.TabulatedMetallicity(T, -2.5 + 0.05 * T),
    "TabulatedSFH": lambda: dspsx.TabulatedSFH(T, T * np.exp(-T / 3)),
    "TabulatedSFH(dsps)": lambda: dspsx.TabulatedSFH(T, T * np.exp(-T / 3), scheme="dsps"),
    "WithBurst": dspsx.WithBurst,
    "WithBurst(dsps)": lambda: dspsx.WithBurst(scheme="dsps"),
}
#: Classes without parameters of their own that hold data; tested in their own files.
DATA_CLASSES = {
    "SSPGrid",
    "FilterSet",
    "LowRankSSP",
    "BandSSP",
    "BandTable",
    "EnergySSP",
    "Certificate",
    "Instrument",
    "TabulatedLines",
    "DustTable",
}
#: Methods of a base class that a final class may replace; everything else that is implemented stays as it is.
HOOKS = {
    "breaks",
    "break_ages",
    "_elements",
    "rate",
    "known_until",
    "times_of_mass",
    "age_weights",
    "brief",
    "transmission",
    "screens",
    "sfr",
}
HOOKS |= {"mean_sfr", "check_energy"}
HOOKS |= {"check_use", "integrate_separable", "starlight", "luminosities_separable", "bolometric"}
HOOKS |= {"continuum", "continuum_separable", "has_continuum", "has_gas", "gas", "gas_ends"}
HOOKS |= {"continuum_spectra", "continuum_parts", "continuum_parts_separable"}

#: Tests of one ingredient run in one process, and share what is compiled.
each = pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in BUILD])


def concrete_classes():
    found, todo = set(), [dspsx.AbstractModel]
    while todo:
        for cls in todo.pop().__subclasses__():
            todo.append(cls)
            if cls.__module__.startswith("dspsx.") and not inspect.isabstract(cls):
                found.add(cls)
    return found


def scalars(model):
    """The differentiable half of a model, and the rest."""
    return eqx.partition(model, jax.tree.map(lambda info: isinstance(info, Parameter), infos(model)))


@eqx.filter_jit
def evaluate_batch(batch):
    return eqx.filter_vmap(testing.evaluate, in_axes=(dspsx.batch_axes(batch),))(batch)


def product(values):
    """One number that every value counts in, each differently."""
    return (values * (1.0 + 0.5 * jnp.sin(jnp.arange(values.size, dtype=values.dtype)))).sum()


@eqx.filter_jit
def look(model):
    """What a model evaluates to, and the gradient of its product: in one program, as compiling is what takes the time."""
    params, rest = scalars(model)

    def function(params):
        values = testing.evaluate(eqx.combine(params, rest))
        return product(values), values

    slopes, values = jax.grad(function, has_aux=True)(params)
    return values, slopes


def assert_finite(model, what):
    for name, (_, g) in dspsx.named_parameters(look(model)[1]).items():
        assert np.isfinite(g).all(), f"gradient with respect to {name} is {g} at {what}:\n{model}"


def test_every_class_has_an_entry():
    missing = {cls.__name__ for cls in concrete_classes()} - {n.split("(")[0] for n in BUILD} - DATA_CLASSES
    assert not missing, f"classes without a contract entry: {missing}"


def test_classes_are_abstract_or_final():
    for cls in concrete_classes():
        assert getattr(cls, "__final__", False), f"{cls.__name__} is neither abstract nor @final"


def test_no_implemented_method_is_overridden_except_hooks():
    for cls in concrete_classes():
        for name, method in vars(cls).items():
            if name.startswith("__") or not inspect.isfunction(method) or name in HOOKS:
                continue
            for base in cls.__mro__[1:]:
                if base.__module__.startswith("dspsx") and name in vars(base):
                    assert getattr(vars(base)[name], "__isabstractmethod__", False), f"{cls.__name__}.{name}"


def test_classes_and_parameters_are_documented():
    for cls in concrete_classes():
        assert cls.__doc__ and len(cls.__doc__) > 20, cls.__name__
        for name, info in parameters_of(cls).items():
            assert info.doc, f"{cls.__name__}.{name} has no doc"
            assert info.bounds != (None, None), f"{cls.__name__}.{name} has no bounds"


@each
def test_builds_with_defaults_of_one_dtype(name, precision):
    model = BUILD[name]()
    assert {x.dtype.name for x in jax.tree.leaves(model)} <= {precision}
    assert not any(x.weak_type for x in jax.tree.leaves(model))
    assert look(model)[0].dtype == precision
    assert isinstance(repr(model), str)


@each
def test_gradients_are_finite(name, precision):
    model, rng = BUILD[name](), np.random.default_rng(1)
    assert_finite(model, "defaults")
    for i in range(20):
        assert_finite(testing.draw(model, rng), f"random point {i}")
    for edge, where in (("lower", lambda lo, hi: lo), ("upper", lambda lo, hi: hi)):
        assert_finite(testing.draw(model, rng, where), f"all parameters at their {edge} bounds")
    for i in range(10):
        assert_finite(testing.draw(model, rng, lambda lo, hi: rng.choice([lo, hi])), f"random corner {i}")


@each
def test_gradients_agree_with_finite_differences(name, x64):
    """Along random directions, by central differences."""
    params, rest = scalars(BUILD[name]())
    leaves, structure = jax.tree.flatten(params)
    if not leaves:
        return
    # a point off the defaults: several defaults lie on a kink (t_peak just after today)
    leaves = [x * 1.01 for x in leaves]
    at = lambda leaves: eqx.combine(jax.tree.unflatten(structure, leaves), rest)  # noqa: E731
    slopes = jax.tree.leaves(look(at(leaves))[1])
    rng = np.random.default_rng(6)
    for _ in range(3):
        steps = [1e-6 * rng.standard_normal(x.shape) for x in leaves]
        ends = [product(look(at([x + s * d for x, d in zip(leaves, steps, strict=True)]))[0]) for s in (1, -1)]
        expected = float(sum((g * d).sum() for g, d in zip(slopes, steps, strict=True)))
        scale = sum(np.abs(np.asarray(g) * d).sum() for g, d in zip(slopes, steps, strict=True))
        np.testing.assert_allclose(float(ends[0] - ends[1]) / 2, expected, rtol=2e-4, atol=2e-4 * scale + 1e-13)


@each
def test_gradients_at_the_defaults_lie_between_those_of_the_two_sides(name, x64):
    """Where a fit starts: a default may lie on a kink, or on a node of a table, but not on a wrong derivative."""
    params, rest = scalars(BUILD[name]())
    leaves, structure = jax.tree.flatten(params)
    at = lambda leaves: eqx.combine(jax.tree.unflatten(structure, leaves), rest)  # noqa: E731
    slopes = jax.tree.leaves(look(at(leaves))[1]) if leaves else []
    for i, (x, slope) in enumerate(zip(leaves, slopes, strict=True)):
        for place in np.ndindex(x.shape):
            step = 1e-6 * max(1.0, abs(float(x[place])))
            changed = [[*leaves[:i], x.at[place].add(d), *leaves[i + 1 :]] for d in (-step, 0.0, step)]
            values = np.array([float(product(look(at(y))[0])) for y in changed])
            sides = np.sort(np.diff(values) / step)
            slack = 3e-4 * np.abs(sides).max() + 1e-7 * np.abs(values[1])
            assert sides[0] - slack <= slope[place] <= sides[1] + slack, (i, place, float(x[place]), sides, slope)


@each
def test_built_in_a_batch_then_sliced_equals_built_once(name):
    model = BUILD[name]()
    theta = dspsx.named_parameters(model)
    if not theta:
        return
    other = testing.draw(model, np.random.default_rng(2))
    batch = dspsx.stack([model, other])
    together = evaluate_batch(batch)
    rtol = 2e-5
    for i, one in enumerate((model, other)):
        assert eqx.tree_equal(dspsx.take(batch, i), one)
        expected = np.asarray(look(one)[0])
        np.testing.assert_allclose(together[i], expected, rtol=rtol, atol=rtol * np.abs(expected).max())


@each
def test_one_trace_over_changed_values(name):
    """What is compiled for a model serves for every other of its kind, whatever its numbers."""
    traced = eqx.filter_jit(eqx.debug.assert_max_traces(lambda model: jnp.zeros(()), max_traces=1))
    traced(BUILD[name]())
    traced(testing.draw(BUILD[name](), np.random.default_rng(3)))
    traced(BUILD[name]())


@each
def test_pickle_and_serialise(name, precision):
    model = testing.draw(BUILD[name](), np.random.default_rng(4))
    assert eqx.tree_equal(pickle.loads(pickle.dumps(model)), model)
    buffer = io.BytesIO()
    eqx.tree_serialise_leaves(buffer, model)
    buffer.seek(0)
    assert eqx.tree_equal(eqx.tree_deserialise_leaves(buffer, BUILD[name]()), model)


@each
def test_partition_combine_round_trip(name, precision):
    model = testing.draw(BUILD[name](), np.random.default_rng(5))
    if not any(info.free for info, _ in dspsx.named_parameters(model).values()):
        with pytest.raises(ValueError, match="no free parameter"):
            dspsx.partition(model)
        return
    back = dspsx.combine(*dspsx.partition(model))
    assert jax.tree.structure(back) == jax.tree.structure(model)
    for key, (info, value) in dspsx.named_parameters(back).items():
        lo, hi = info.bounds
        span = (hi - lo) if None not in (lo, hi) else float(np.abs(value).max())
        original = dspsx.named_parameters(model)[key][1]
        np.testing.assert_allclose(value, original, atol=span * (3e-6 if precision == "float32" else 1e-12), rtol=0)


def test_a_misspelt_parameter_is_a_type_error():
    for build in BUILD.values():
        if inspect.isclass(build):
            with pytest.raises(TypeError, match="no_such_parameter"):
                build(no_such_parameter=1.0)
    assert isinstance(dspsx.DustLaw, abc.ABCMeta)
    assert jnp.zeros(()).dtype == jnp.float32
