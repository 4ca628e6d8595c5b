"""What the gas between the galaxy and us absorbs."""

import abc

from jaxtyping import Array, Float

from dspsx._model import AbstractModel, Scalar


class IGM(AbstractModel):
    """Absorption by the intergalactic medium. Write one method, `transmission`."""

    @abc.abstractmethod
    def transmission(self, wave: Float[Array, " wave"], redshift: Scalar) -> Float[Array, " wave"]:
        """Fraction of the light emitted at rest-frame wavelengths in Angstrom by a source at `redshift` that reaches us."""
