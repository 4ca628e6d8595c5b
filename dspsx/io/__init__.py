"""Files: models saved and loaded, and libraries of simple stellar populations."""

from dspsx.io.libraries import fetch, import_library, library
from dspsx.io.store import load, save

__all__ = ["fetch", "import_library", "library", "load", "save"]
