"""dspsx as a worker: `python -m benchmarks.ours --task magnitudes --problem FILE.npz --n 1000`."""

import dataclasses
import functools
import pickle
from typing import Any

import numpy as np

from benchmarks.problem import BARYONS, HUBBLE, OMEGA_M, ONE_REDSHIFT, T_TODAY, Problem
from benchmarks.timing import Skip, Timed, batch_size, serve

#: Where the galaxies' parameters are in the model, in the order of `Problem.params` with the redshift last.
PLACES = {
    "population": lambda g: (
        *(g.sfh.mah.logm0, g.sfh.mah.logtc, g.sfh.mah.early_index, g.sfh.mah.late_index, g.sfh.mah.t_peak),
        *(g.sfh.lgmcrit, g.sfh.lgy_at_mcrit, g.sfh.indx_lo, g.sfh.indx_hi),
        *(g.sfh.lg_qt, g.sfh.qlglgdt, g.sfh.lg_drop, g.sfh.lg_rejuv),
        *(g.metallicity.lgmet, g.metallicity.scatter),
        *(_diffuse(g).av, _diffuse(g).bump, _diffuse(g).delta),
    ),
    "spectrum": lambda g: (
        *(g.sfh.lg_mass_formed, g.sfh.age, g.sfh.tau),
        *(g.metallicity.lgmet, g.metallicity.scatter, g.dust.av),
    ),
}


def _diffuse(galaxy):
    return getattr(galaxy.dust, "diffuse", galaxy.dust)


def _start(dtype: str):
    import jax

    jax.config.update("jax_enable_x64", dtype == "float64")
    import dspsx

    return jax, dspsx


def _galaxy(problem: Problem, extra: str = ""):
    """One galaxy of the problem's kind, in the cosmology of DSPS; with `extra` "clouds" young stars in birth clouds,
    with "all" all else that there is switched on."""
    import dspsx

    kinds = {
        "population": {
            "sfh": dspsx.DiffstarSFH(mah=dspsx.DiffmahHalo(t0=T_TODAY), fb=BARYONS),
            "dust": dspsx.Salim18(),
        },
        "spectrum": {"sfh": dspsx.DelayedTauSFH(), "dust": dspsx.Calzetti00()},
    }
    galaxy = dspsx.GalaxySEDModel(
        ssp=dspsx.SSPGrid(problem.wave, problem.lg_age, problem.lgmet, problem.flux),
        filters=dspsx.FilterSet.from_arrays(problem.names, *zip(*problem.bands, strict=True)),
        metallicity=dspsx.LognormalMDF(),
        cosmology=dspsx.Cosmology(Om0=OMEGA_M, h=HUBBLE, Tcmb0=0.0),
        redshift=ONE_REDSHIFT,
        **kinds[problem.kind],
    )
    if not extra:
        return galaxy
    galaxy = dataclasses.replace(galaxy, dust=dspsx.CharlotFall00(diffuse=galaxy.dust))
    if extra == "clouds":
        return galaxy
    return dataclasses.replace(
        galaxy,
        lines=dspsx.NebularLines(galaxy.ssp),
        dust_emission=dspsx.Casey12(),
        igm=dspsx.Inoue14(),
    )


def _compressed(problem: Problem, compress: Any, rank: int | None = None, tol: float = 1e-3, extra: str = ""):
    """The galaxy as it is; with a table of bands for one redshift or a pair [lowest, highest]; or with spectra of low rank."""
    galaxy = _galaxy(problem, extra)
    if rank is not None:
        if not hasattr(galaxy.ssp, "compress"):
            raise Skip("SSPGrid.compress does not exist yet")
        return dataclasses.replace(galaxy, ssp=galaxy.ssp.compress(rank=rank))
    if compress is None:
        return galaxy
    if not hasattr(galaxy, "compress"):
        raise Skip("GalaxySEDModel.compress does not exist yet")
    return galaxy.compress(redshift=tuple(compress) if isinstance(compress, list) else compress, tol=tol)


def store(problem: Problem, dtype: str, n: int, *, path: str, **how: Any) -> Timed:
    """Compress once and keep the galaxy in a file, so that workers that predict are not charged for the memory of it."""
    _start(dtype)
    galaxy = _compressed(problem, **how)
    with open(path, "wb") as file:
        pickle.dump(galaxy, file)
    return Timed(lambda: None)


def _batch(galaxy, problem: Problem, n: int, own_redshift: bool, **changes: float):
    """n galaxies: only the parameters that differ gain a leading axis. n = 1 is one galaxy, without it."""
    import equinox as eqx
    import jax.numpy as jnp

    values = problem.galaxies(n, own_redshift)
    values |= {name: np.full(n, x) for name, x in changes.items()}
    names = [*problem.params, "redshift"] if own_redshift else list(problem.params)
    kind = PLACES[problem.kind]
    where = (lambda g: (*kind(g), g.redshift)) if own_redshift else kind
    new = [jnp.asarray(values[name][0] if n == 1 else values[name], float) for name in names]
    return eqx.tree_at(where, galaxy, new), where


def _split(batch):
    """The leaves with a leading axis, and the rest."""
    import equinox as eqx
    import jax

    import dspsx

    axes = dspsx.batch_axes(batch)
    return eqx.partition(batch, jax.tree.map(lambda axis: axis is not None, axes, is_leaf=lambda x: x is None))


def magnitudes(
    problem: Problem,
    dtype: str,
    n: int,
    *,
    compress: Any = None,
    rank: int | None = None,
    stored: str | None = None,
    own_redshift: bool = False,
    gradient: bool = False,
    spectrum: bool = False,
    via: str = "program",
    chunk: int = 500,
    extra: str = "",
    **changes: float,
) -> Timed:
    """Magnitudes of n galaxies, or gradients of their sum with respect to every parameter, of a `stored` galaxy if given.

    `via` is the call: "predict" as users write it (NumPy in, NumPy out), "program" one compiled map over chunks, "call"
    the compiled method of a single galaxy, "vmap" all galaxies at once.
    """
    jax, dspsx = _start(dtype)
    import equinox as eqx

    if stored:
        with open(stored, "rb") as file:
            small = pickle.load(file)
    else:
        small = _compressed(problem, compress, rank, extra=extra)
    facts = _certificate(small)
    batch, where = _batch(small, problem, n, own_redshift, **changes)

    if spectrum and not gradient:

        def observe(g):
            light = g.light()
            return light.rest_sed(), light.magnitudes()

        only_magnitudes = lambda output: output[1]  # noqa: E731
    else:
        observe = lambda g: g.magnitudes()  # noqa: E731
        only_magnitudes = lambda output: output  # noqa: E731
    total = lambda g: g.magnitudes().sum()  # noqa: E731

    if via == "predict":
        if not hasattr(dspsx, "predict"):
            raise Skip("dspsx.predict does not exist yet")
        if gradient:
            return Timed(lambda: dspsx.predict_and_gradient(batch, total, where=where, progress=False), facts=facts)
        what = observe if spectrum else "magnitudes"
        return Timed(lambda: dspsx.predict(batch, what, progress=False), only_magnitudes, facts)

    if n == 1:
        chosen, rest = dspsx.partition(batch, where, physical=True)
        if gradient:
            run = jax.jit(jax.value_and_grad(lambda p, r: total(dspsx.combine(p, r, physical=True))))
            return Timed(lambda: run(chosen, rest), facts=facts)
        run = jax.jit(observe)
        return Timed(lambda: run(batch), lambda output: only_magnitudes(output)[None], facts)

    if gradient:
        observe = total
    differentiate = jax.value_and_grad if gradient else lambda f: f
    shape = (
        functools.partial(jax.lax.map, batch_size=batch_size(chunk, n))
        if via == "program"
        else lambda f, x: jax.vmap(f)(x)
    )
    batched, shared = _split(batch)

    @jax.jit
    def run(batched, shared):
        return shape(differentiate(lambda b: observe(eqx.combine(b, shared))), batched)

    return Timed(lambda: run(batched, shared), None if gradient else only_magnitudes, facts)


def dsps_scheme(problem: Problem, dtype: str, n: int, *, own_redshift: bool = False, chunk: int = 50) -> Timed:
    """Magnitudes with the weights as DSPS defines them but every later integral exact: what its photometry alone costs."""
    jax, dspsx = _start(dtype)
    import equinox as eqx
    import jax.numpy as jnp

    galaxy = _galaxy(problem)
    batch, _ = _batch(galaxy, problem, n, own_redshift)
    t_table = jnp.linspace(0.01, T_TODAY, 100)
    batched, shared = _split(batch)

    def one(b, shared):
        g = eqx.combine(b, shared)
        sfr = g.sfh.sfr(t_table) if problem.kind == "population" else g.sfh.sfr(t_table, g.t_obs)
        return dspsx.GalaxySEDModel(
            ssp=g.ssp,
            sfh=dspsx.TabulatedSFH(t_table, sfr, scheme="dsps"),
            metallicity=dspsx.LognormalMDF(g.metallicity.lgmet, g.metallicity.scatter, scheme="dsps"),
            dust=g.dust,
            filters=g.filters,
            cosmology=g.cosmology,
            redshift=g.redshift,
        ).magnitudes()

    run = jax.jit(lambda b, s: jax.lax.map(lambda x: one(x, s), b, batch_size=batch_size(chunk, n)))
    return Timed(lambda: run(batched, shared), lambda output: output)


def weights(
    problem: Problem, dtype: str, n: int, *, gradient: bool = False, own_redshift: bool = False, chunk: int = 500
) -> Timed:
    """Age weights times metallicity weights of n galaxies; their sum, so that no output is written."""
    jax, _ = _start(dtype)
    import equinox as eqx

    batched, shared = _split(_batch(_galaxy(problem), problem, n, own_redshift)[0])

    @jax.jit
    def run(batched, shared):
        total = lambda b: eqx.combine(b, shared).weights().sum()  # noqa: E731
        return jax.lax.map(jax.value_and_grad(total) if gradient else total, batched, batch_size=batch_size(chunk, n))

    return Timed(lambda: run(batched, shared))


def table(problem: Problem, dtype: str, n: int, *, compress: Any) -> Timed:
    """The building of the compressed photometry itself."""
    jax, _ = _start(dtype)
    facts: dict[str, str] = {}

    def build():
        small = _compressed(problem, compress)
        facts.update(_certificate(small))
        return jax.tree.leaves(small)

    return Timed(build, facts=facts)


def _certificate(galaxy) -> dict[str, str]:
    certificate = getattr(galaxy.ssp, "certificate", None)
    return {} if certificate is None else {"certificate": getattr(certificate, "brief", certificate.__str__)()}


def demo(problem: Problem | None, dtype: str, n: int) -> Timed:
    """The population of `dspsx demo`: its first call compiles, the next ones, of other galaxies each, must not.

    Facts: how often XLA compiled in the first and in the second call.
    """
    jax, dspsx = _start(dtype)
    from dspsx.demo import halo_population

    if not hasattr(dspsx, "predict"):
        raise Skip("dspsx.predict does not exist yet")
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiled.append(seconds) if event.endswith("backend_compile_duration") else None
    )
    populations = [halo_population(n, seed=seed) for seed in range(3)]
    compiled.clear()
    facts: dict[str, list[int]] = {"compilations": []}
    calls = iter(range(10**9))

    def call():
        before = len(compiled)
        output = dspsx.predict(populations[next(calls) % 3], "magnitudes", progress=False)
        if len(facts["compilations"]) < 2:
            facts["compilations"].append(len(compiled) - before)
        return output

    return Timed(call, facts=facts)


if __name__ == "__main__":
    serve({f.__name__: f for f in (magnitudes, dsps_scheme, weights, table, store, demo)})
