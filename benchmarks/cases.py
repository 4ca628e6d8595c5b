"""The rows of the table: each is one function of the settings, and says what is timed beside what."""

import os
from collections.abc import Callable

from benchmarks.problem import GRIDS, ONE_REDSHIFT, OWN_REDSHIFTS
from benchmarks.run import Line, Row, Settings

ROWS: dict[str, Callable[[Settings], Row]] = {}


def row(name: str):
    """Register a row under the name that `--only` takes."""

    def register(make: Callable[[Settings], Row]):
        ROWS[name] = make
        return make

    return register


def both(make: Callable[..., list[Line]], s: Settings) -> list[Line]:
    """Lines of each precision that was asked for, values first."""
    return [line for gradient in (False, True) for dtype in s.precisions for line in make(dtype, gradient)]


def _kind(gradient: bool) -> dict:
    return {"kind": "gradient" if gradient else "forward", "compare": not gradient}


def _spectrum(s: Settings) -> dict:
    if s.ssp:
        return {"kind": "spectrum", "ssp": s.ssp}
    return {"kind": "spectrum", "shape": (4, 40, 2000)} if s.quick else {"kind": "spectrum"}


def _population(s: Settings) -> dict:
    quick = {"shape": (6, 40, 1500), "n": 2000, "redshifts": (0.45, 0.5)}
    return {"kind": "population"} | (quick if s.quick else {})


def _redshift_range(s: Settings) -> list[float]:
    """Of the table that is asked of dspsx."""
    return [0.45, 0.5] if s.quick else [0.0, OWN_REDSHIFTS[1]]


def _one_galaxy(s: Settings, dtype: str, gradient: bool) -> list[Line]:
    name = "one galaxy, gradient" if gradient else "one galaxy"
    options = {"gradient": gradient, "spectrum": True}
    common = {"dtype": dtype, **_kind(gradient)}
    quick = dtype == "float32"
    return [
        Line("dspsx", name, "magnitudes", options=options, quick=quick, **common),
        Line("DSPS", name, "exact", options=options, quick=not quick and not gradient, **common),
    ]


@row("one")
def one(s: Settings) -> Row:
    """One galaxy on the embedded grid."""
    lines = both(lambda *a: _one_galaxy(s, *a), s)
    lines.insert(len(lines) // 2, Line("plain", "NumPy", "galaxies", "float64"))
    title = "One galaxy on the embedded grid (6 x 106 x 1229): spectrum and ten magnitudes"
    return Row(title, lines, {"kind": "spectrum", "ssp": "default"})


@row("spectrum")
def spectrum(s: Settings) -> Row:
    """One galaxy on a large grid, beside the bare matrix product and the codes that fit spectra."""

    def lines(dtype: str, gradient: bool) -> list[Line]:
        end = ", gradient" if gradient else ""
        common = {"dtype": dtype, "options": {"gradient": gradient}, **_kind(gradient)}
        found = _one_galaxy(s, dtype, gradient)
        jnp = dict(common, options={"engine": "jax", "gradient": gradient})
        found.append(Line("plain", "jax.numpy, matrix products alone" + end, "product", quick=not gradient, **jnp))
        if dtype == "float64":
            options = {"gradient": gradient, "scatter": 0.0}
            common |= {"options": options, "quick": False}
            found.append(Line("ceridwen", "one galaxy, one metallicity" + end, "galaxies", **common))
        return found

    made = both(lines, s)
    where = next((i for i, line in enumerate(made) if line.kind == "gradient"), len(made))
    made[where:where] = [
        *(Line("plain", "NumPy, matrix products alone", "product", dtype) for dtype in s.precisions),
        Line("plain", "NumPy", "galaxies", "float64"),
        Line("bagpipes", "one galaxy, photometry, its own grid", "galaxies", "float64", compare=False),
    ]
    title = f"One galaxy on a grid of the shape of BC03-MILES ({_shape(_spectrum(s))}): spectrum and ten magnitudes"
    return Row(title, made, _spectrum(s))


@row("spectra")
def spectra(s: Settings) -> Row:
    """As `spectrum`, of many galaxies."""
    n, few = s.size(1000, 40), s.size(50, 5)

    def lines(dtype: str, gradient: bool) -> list[Line]:
        end = ", gradient" if gradient else ""
        common = {"dtype": dtype, **_kind(gradient)}
        quick, options = dtype == "float32", {"gradient": gradient, "spectrum": True, "chunk": 100}
        own, predict = dict(options, own_redshift=True), dict(options, via="predict")
        alone = dict(predict, spectrum=False)
        jnp = {"engine": "jax", "gradient": gradient, "chunk": 100}
        peer = dict(options, chunk=5 if gradient else 0)
        of_bands = [Line("dspsx", "predict, magnitudes alone", "magnitudes", n=n, options=alone, quick=False, **common)]
        return [
            Line("dspsx", "predict" + end, "magnitudes", n=n, options=predict, quick=quick, **common),
            *([] if gradient else of_bands),
            Line(
                "dspsx", "one redshift, bare program" + end, "magnitudes", n=n, options=options, quick=False, **common
            ),
            Line("dspsx", "own redshifts" + end, "magnitudes", n=n, options=own, quick=False, **common),
            Line("dspsx", "rank 64" + end, "magnitudes", n=n, options=dict(options, rank=64), quick=quick, **common),
            Line(
                "plain",
                "jax.numpy, matrix products alone" + end,
                "product",
                n=n,
                options=jnp,
                quick=False,
                **common,
            ),
            Line("DSPS", "vmap" + end, "exact", n=few, options=peer, quick=not quick and not gradient, **common),
            *(
                [
                    Line(
                        "ceridwen",
                        "predict_vmap, one metallicity" + end,
                        "galaxies",
                        n=few,
                        options={"gradient": gradient, "scatter": 0.0},
                        quick=False,
                        **common,
                    )
                ]
                if dtype == "float64"
                else []
            ),
        ]

    made = both(lines, s)
    where = next((i for i, line in enumerate(made) if line.kind == "gradient"), len(made))
    made[where:where] = [
        *(Line("plain", "NumPy, matrix products alone", "product", dtype, n) for dtype in s.precisions),
        Line("plain", "NumPy", "galaxies", "float64", few),
        Line("bagpipes", "update(), its own grid", "galaxies", "float64", s.size(200, 5), compare=False),
    ]
    title = f"Many galaxies on that grid ({_shape(_spectrum(s))}): spectra and ten magnitudes"
    return Row(title, made, _spectrum(s))


def _population_row(s: Settings, own: bool) -> Row:
    n, some, few = s.size(100_000, 2000), s.size(1000, 100), s.size(200, 20)
    compress = {"compress": _redshift_range(s) if own else ONE_REDSHIFT, "own_redshift": own}

    def lines(dtype: str, gradient: bool) -> list[Line]:
        end = ", gradient" if gradient else ""
        common = {"dtype": dtype, **_kind(gradient)}
        single, exact = dtype == "float32", {"own_redshift": own, "gradient": gradient}
        ours = dict(compress, gradient=gradient)
        found = [
            Line(
                "dspsx",
                "compressed, predict" + end,
                "magnitudes",
                n=n,
                options=dict(ours, via="predict"),
                quick=single,
                **common,
            ),
            Line("dspsx", "compressed, bare program" + end, "magnitudes", n=n, options=ours, quick=single, **common),
            Line("dspsx", "exact" + end, "magnitudes", n=some, options=dict(exact, chunk=50), quick=False, **common),
        ]
        found += [
            Line(
                "DSPS",
                "exact" + end,
                "exact",
                n=few,
                options=dict(exact, chunk=20 if gradient else 0),
                quick=False,
                **common,
            ),
            Line(
                *("DSPS", "tables, 25 redshifts" + end, "tables"),
                n=n,
                options=exact,
                quick=not single and not gradient,
                **common,
            ),
        ]
        if not own:
            options = dict(exact, n_z=1)
            found.append(
                Line("DSPS", "table of that redshift" + end, "tables", n=n, options=options, quick=False, **common)
            )
        if single:
            floor = "free_z" if own else "fixed_z"
            found.append(Line("floor", floor + end, floor, n=n, options={"gradient": gradient}, **common))
        if own and not single:
            options = {"gradient": gradient}
            found.append(
                Line("diffsky", "its own population" + end, "galaxies", n=some, options=options, quick=False, **common)
            )
        return found

    made = both(lines, s)
    where = next((i for i, line in enumerate(made) if line.kind == "gradient"), len(made))
    fine = {"own_redshift": own, "nodes": 8, "pieces": 24}
    made[where:where] = [
        Line("plain", "NumPy", "galaxies", "float64", few, options={"own_redshift": own}),
        Line(
            "plain", "NumPy, 100 times finer in age", "galaxies", "float64", s.size(50, 10), options=fine, quick=False
        ),
    ]
    lo, hi = _population(s).get("redshifts", OWN_REDSHIFTS)
    where = f"at each galaxy's own redshift ({lo:g} to {hi:g})" if own else "at one redshift"
    physics = f"{_shape(_population(s))}, diffmah, diffstar, lognormal MDF, Salim dust"
    title = f"Population {where}: halo to six LSST magnitudes ({physics})"
    return Row(title, made, _population(s))


@row("population")
def population(s: Settings) -> Row:
    """Many halos at one redshift."""
    return _population_row(s, own=False)


@row("redshifts")
def redshifts(s: Settings) -> Row:
    """Many halos, each at its own redshift."""
    return _population_row(s, own=True)


@row("everything")
def everything(s: Settings) -> Row:
    """What gas, birth clouds, dust emission and the intergalactic medium cost."""
    n, some = s.size(100_000, 500), s.size(1000, 20)

    def lines(dtype: str, gradient: bool) -> list[Line]:
        end, found = ", gradient" if gradient else "", []
        for compress, many in ((ONE_REDSHIFT, n), (None, some)):
            for extra, name in (("", "plain"), ("clouds", "birth clouds"), ("all", "everything")):
                what = name + (", compressed" if compress else ", exact") + end
                common = {"dtype": dtype, **_kind(gradient), "compare": False}
                options = {
                    "compress": compress,
                    "extra": extra,
                    "gradient": gradient,
                    "via": "predict",
                }
                quick = dtype == "float32" and not gradient and not compress
                found.append(Line("dspsx", what, "magnitudes", n=many, options=options, quick=quick, **common))
        return found

    title = "Everything switched on (89 lines, the gas's continuum, birth clouds, IGM, dust emission) beside the plain galaxy"
    return Row(
        f"{title}: PopStar, six LSST bands at z = {ONE_REDSHIFT}", both(lines, s), _population(s) | {"ssp": "default"}
    )


@row("weights")
def weights(s: Settings) -> Row:
    """Ages and metallicities alone."""
    n = s.size(100_000, 2000)

    def lines(dtype: str, gradient: bool) -> list[Line]:
        end = ", gradient" if gradient else ""
        common = {"dtype": dtype, "n": n, **_kind(gradient), "compare": False}
        single, found = dtype == "float32", []
        for own, where in ((False, "one redshift"), (True, "own redshifts")):
            options = {"gradient": gradient, "own_redshift": own}
            quick = single and not own and not gradient
            found.append(Line("dspsx", where + end, "weights", options=options, quick=quick, **common))
            quick = not single and not own and not gradient
            found.append(Line("DSPS", where + end, "weights", options=options, quick=quick, **common))
        if single:
            found.append(Line("floor", "one redshift" + end, "weights_only", options={"gradient": gradient}, **common))
        return found

    title = f"Weights alone: halo to the masses at each metallicity and age ({_shape(_population(s))})"
    return Row(title, both(lines, s), _population(s))


@row("tables")
def tables(s: Settings) -> Row:
    """What must be built before."""

    def lines(dtype: str) -> list[Line]:
        common = {"dtype": dtype, "kind": "", "compare": False, "quick": False}
        return [
            Line("dspsx", "any redshift of a range", "table", options={"compress": _redshift_range(s)}, **common),
            Line("dspsx", "one redshift", "table", options={"compress": ONE_REDSHIFT}, **common),
            Line("DSPS", "25 redshifts", "build", options={"n_z": 25}, **common),
            Line("DSPS", "one redshift", "build", options={"n_z": 1}, **common),
        ]

    made = [line for dtype in s.precisions for line in lines(dtype)]
    return Row("Building the tables, once for any number of galaxies", made, _population(s))


@row("large")
def large(s: Settings) -> Row:
    """Time and memory of up to a million galaxies."""
    sizes = [s.size(1000, 200), s.size(10_000, 2000)] + ([] if s.quick else [100_000, 1_000_000])
    ours = {"compress": _redshift_range(s), "own_redshift": True, "via": "predict"}
    one = {"compress": ONE_REDSHIFT, "own_redshift": False, "via": "predict"}
    made = []
    for n in sizes:
        common = {"n": n, "x": float(n), "compare": False}
        made += [
            Line("dspsx", "compressed, own redshifts", "magnitudes", "float32", options=ours, **common),
            Line("dspsx", "compressed, one redshift", "magnitudes", "float32", options=one, **common),
        ]
        if n <= 100_000:
            made.append(
                Line("DSPS", "tables", "tables", "float64", options={"own_redshift": True}, quick=False, **common)
            )
    n = s.size(100_000, 1000)
    common = {"n": n, "kind": "gradient", "compare": False, "quick": False}
    options = {"own_redshift": True, "gradient": True}
    made += [
        Line("dspsx", "compressed, own redshifts, gradient", "magnitudes", options=dict(ours, gradient=True), **common),
        Line("DSPS", "tables, gradient", "tables", "float64", options=options, **common),
    ]
    return Row("Many more galaxies: time and memory", made, _population(s), in_turns=False, axis="galaxies")


@row("bands")
def bands(s: Settings) -> Row:
    """Time over the number of bands."""
    return _scaling(s, "bands", [2, 6, 18], lambda x: {"n_bands": x})


@row("ages")
def ages(s: Settings) -> Row:
    """Time over the number of ages."""
    return _scaling(s, "ages", [47, 94, 188], lambda x: {"shape": (22, x, 5994)})


@row("wavelengths")
def wavelengths(s: Settings) -> Row:
    """Time over the number of wavelengths."""
    return _scaling(s, "wavelengths", [1500, 3000, 6000, 12000], lambda x: {"shape": (22, 94, x)})


def _scaling(s: Settings, axis: str, values: list[int], change: Callable[[int], dict]) -> Row:
    made = []
    for x in values[:2] if s.quick else values:
        problem = {"kind": "population", "n": 10_000} | change(x)
        if s.quick:
            problem["shape"] = (4, min(x, 40) if axis == "ages" else 20, min(x, 1000) if axis == "wavelengths" else 500)
        common = {"problem": problem, "x": float(x), "compare": False}
        exact = common | {"kind": "exact", "options": {"chunk": 50}}
        made += [
            Line(
                *("dspsx", "compressed", "magnitudes", "float32", s.size(10_000, 100)),
                options={"compress": ONE_REDSHIFT},
                quick=False,
                **common,
            ),
            Line("dspsx", "exact", "magnitudes", "float32", s.size(500, 20), quick=axis == "wavelengths", **exact),
            Line("DSPS", "tables", "tables", "float64", s.size(10_000, 100), quick=False, **common),
            Line("DSPS", "exact", "exact", "float64", s.size(50, 5), quick=False, **exact),
        ]
    return Row(f"Scaling with the number of {axis}, at one redshift", made, in_turns=False, axis=axis)


@row("first-call")
def first_call(s: Settings) -> Row:
    """What a newcomer waits for."""
    n = s.size(10_000, 500)
    made = [
        Line("dspsx", "the demo's population, predict", "demo", "float32", n, compare=False),
        Line("DSPS", "tables, own redshifts", "tables", "float64", n, options={"own_redshift": True}, compare=False),
    ]
    note = (
        "the first call takes what stands under compile and one run; compilations: in the first and in the second call"
    )
    return Row("First call of a population, and later calls with other galaxies", made, _population(s), note=note)


@row("matmul")
def matmul(s: Settings) -> Row:
    """What the precision of matrix products costs on this device: TF32 is the default of some GPUs."""
    n = s.size(1000, 100)
    made = [
        Line(
            "plain",
            f"jax.numpy, precision {precision}",
            "product",
            "float32",
            n,
            options={"engine": "jax", "precision": precision},
        )
        for precision in ("default", "highest")
    ]
    made.append(Line("plain", "NumPy", "product", "float32", n))
    note = "dspsx asks for the highest precision in every product that fluxes go through"
    return Row("Precision of the matrix product: weights to spectra to bands", made, _population(s), note=note)


def _shape(problem: dict) -> str:
    if "ssp" in problem:
        return os.path.basename(problem["ssp"])
    return " x ".join(map(str, problem.get("shape", GRIDS[problem["kind"]])))
