"""Nodes of a band: the few wavelengths from which everything that dust can do to the band's light follows."""

from typing import Any

import numpy as np

from dspsx.compressed.errors import off

#: A band needs more nodes than this only if its tolerance is out of reach.
MOST_NODES = 120
#: More nodes than this may be owed to the weights of the examples, or to rounding in the quick decomposition: other weights and
#: the exact one are tried as well.
_MANY_NODES = 25
#: Spectra that the last test of a band's nodes is made with; and by how much it may be missed where no nodes pass it.
_MORE_LIGHT, _RELAXED = 40, 1.25


def leading(x: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The `most` leading singular vectors and values: x is about u * s @ v. By the eigenvectors of the smaller of the two
    matrices of products, which is quick, and knows values down to 1e-8 of the largest. A large matrix is narrowed first to
    the space that it maps random vectors to (Halko, Martinsson & Tropp 2011, SIAM Review 53, 217)."""
    if x.shape[0] < x.shape[1]:
        v, s, u = leading(x.T, most)
        return u.T, s, v.T
    if x.shape[1] > max(6 * most, most + 16):
        seen = x @ np.random.default_rng(0).normal(size=(x.shape[1], most + 16))
        for _ in range(2):
            seen = x @ (x.T @ np.linalg.qr(seen)[0])
        basis = np.linalg.qr(seen)[0]
        u, s, v = leading(basis.T @ x, most)
        return basis @ u, s, v
    power, vectors = np.linalg.eigh(x.T @ x)
    s = np.sqrt(np.maximum(power[::-1][:most], 1e-300))
    v = vectors[:, ::-1][:, :most].T
    return (x @ v.T) / s, s, v


def fit(
    projections: np.ndarray,
    light: np.ndarray,
    transmission: np.ndarray,
    n_fit: int,
    tol: float,
    dimmest: Any,
    guess: int = 1,
    most: int = MOST_NODES,
    more: np.ndarray | None = None,
    tol_more: float = np.inf,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Choose nodes for one band: indices of wavelengths, and interpolating functions phi (wave, node).

    A transmission is written as :math:`T(\lambda) = \sum_n T(\lambda_n) \phi_n(\lambda)`. The functions span the leading
    singular vectors of example transmissions, each divided by the light that it lets through, and the nodes are where
    these vectors are told apart best (discrete empirical interpolation; Chaturantabut & Sorensen 2010, SIAM J. Sci. Comput.
    32, 2737). So a step or a bump of a law costs no nodes. The number of nodes is the least with which the mean in the band,
    for every projection, is within `tol` (relative) for examples that did not take part in the fit, sought from `guess`; if they
    are many, examples are also weighted otherwise, and the fewest taken.

    **Arguments:** `projections` (redshift, wave), weights of the band's mean; `light` (example, wave) before dust;
    `transmission` (example, wave), of which the first `n_fit` are fitted and the rest, paired with the light, test;
    `dimmest`, the transmission of a whole band below which errors are relative to it, or one for each projection; `more`
    transmissions (any, wave), of each of which with each of some light the errors must be within `tol_more`. Such pairs are rarer
    than galaxies are: if `most` nodes do not reach that, a quarter more is enough, or else of the nodes that were tried those are
    taken that come nearest.
    Raises ValueError if `most` nodes do not reach the tolerance.
    """
    mean_light = (light / light.sum(1, keepdims=True)).mean(0)
    weight = projections.mean(0) * mean_light
    weight = weight / weight.sum()
    root = np.sqrt(np.maximum(weight, 1e-12 * weight.max()))
    known = transmission[:n_fit]
    examples = known * root / (known @ weight)[:, None]
    test = transmission[n_fit:]
    seen = light[: len(test)]
    projected = [seen * p for p in projections]
    dimmest = np.broadcast_to(dimmest, len(projections))
    exact = [((x * test).sum(1), x.sum(1) * least) for x, least in zip(projected, dimmest, strict=True)]
    of_more = None if more is None else _Pairs(projected, dimmest, more)
    nearest = []  # of nodes that pass all tests but the last those that come nearest to it, with how far off they are

    def chosen(power: np.ndarray, vectors: np.ndarray, most: int) -> tuple[np.ndarray | None, np.ndarray, float]:
        enough = min(most, int((power > 1e-12 * power[0]).sum()))

        def tried(n: int) -> tuple[np.ndarray, np.ndarray, float]:
            # with the error in units of what is allowed
            modes = vectors[:n].T / root[:, None]
            nodes = interpolation_points(vectors[:n].T)
            phi = np.linalg.solve(modes[nodes].T, modes.T).T
            at_nodes = test[:, nodes]
            error = 0.0
            for x, (light_left, least) in zip(projected, exact, strict=True):
                lit = least > 0
                found = ((x[lit] @ phi) * at_nodes[lit]).sum(1)
                error = max(error, off(found, light_left[lit], least[lit]).max(initial=0.0) / tol)
            if of_more is not None and error < 1.0:
                error = max(error, missed := of_more.worst(nodes, phi) / tol_more)
                how_far = (True, missed) if missed > _RELAXED else (False, n)
                nearest[:] = [min([*nearest, (how_far, nodes, phi)], key=lambda found: found[0])]
            return nodes, phi, error

        n = min(guess, enough)
        best = tried(n)
        if best[2] < 1.0:
            while n > 1 and (fewer := tried(n - 1))[2] < 1.0:
                n, best = n - 1, fewer
            return best
        worst = best[2]
        while n < enough:
            n += 1
            best = tried(n)
            worst = min(worst, best[2])
            if best[2] < 1.0:
                return best
        return None, np.zeros(0), worst

    balanced = _balanced(examples)
    exactly = lambda x: np.linalg.svd(x, full_matrices=False)[1:]  # noqa: E731
    quickly = lambda x: leading(x, most)[1:]  # noqa: E731
    nodes, phi, worst = None, np.zeros(0), np.inf
    for modes, x in ((quickly, examples), (quickly, balanced), (exactly, balanced), (exactly, examples)):
        # fewer than there are already, if any
        again, functions, error = chosen(*modes(x), most if nodes is None else len(nodes) - 1)
        worst = min(worst, error)
        if again is not None:
            nodes, phi = again, functions
        if nodes is not None and len(nodes) <= _MANY_NODES:
            break
    if nodes is None and nearest:
        _, nodes, phi = nearest[0]  # the certificate has the last word
    if nodes is None:
        raise ValueError(f"with up to {most} nodes the error is {worst:.2g} times what they may cost")
    return nodes, phi


def _balanced(examples: np.ndarray) -> np.ndarray:
    """Examples between as they are and all of one size. Those that let a band's light through its wings alone are the largest, and
    would leave few modes to what happens in its middle."""
    return examples / np.sqrt(np.linalg.norm(examples, axis=1, keepdims=True))


class _Pairs:
    """Transmissions, each with some light, at each projection: products of matrices, and so many more pairs than there is time for
    one by one."""

    def __init__(self, projected: list[np.ndarray], dimmest: np.ndarray, transmission: np.ndarray):
        some = [x[:_MORE_LIGHT] for x in projected]
        self.light = np.concatenate(some)
        self.least = self.light.sum(1) * np.repeat(dimmest, len(some[0]))
        self.transmission, self.exact = transmission, transmission @ self.light.T

    def worst(self, nodes: np.ndarray, phi: np.ndarray) -> float:
        return off(self.transmission[:, nodes] @ (self.light @ phi).T, self.exact, self.least).max(initial=0.0)


def interpolation_points(modes: np.ndarray) -> np.ndarray:
    """Rows of modes (wave, mode) that make the best conditioned square matrix, chosen greedily (QR with pivots)."""
    rest = modes.copy()
    chosen = []
    for _ in range(modes.shape[1]):
        size = (rest**2).sum(1)
        i = int(np.argmax(size))
        chosen.append(i)
        direction = rest[i] / np.sqrt(size[i])
        rest = rest - np.outer(rest @ direction, direction)
    return np.array(chosen)
