"""The one door to faiss, whose matrix products are told what processor this is.

Its packages carry an OpenBLAS that takes a processor that it does not know for one of 2004: on an Emerald Rapids k-means and exact
distances took four to five times as long. numpy's own copy is newer, and knows more of them.
"""

from __future__ import annotations

import os
from functools import cache
from types import ModuleType

CORE = "OPENBLAS_CORETYPE"
"""What OpenBLAS reads as it is loaded; a name that it does not know is passed over."""


@cache
def load_faiss() -> ModuleType:
    """faiss, imported at the first call; `OPENBLAS_CORETYPE` of the environment is left as it is."""
    from threadpoolctl import threadpool_info

    known = next(
        (lib["architecture"] for lib in threadpool_info() if lib["internal_api"] == "openblas"), None
    )
    told = known is not None and CORE not in os.environ
    if told:
        os.environ[CORE] = known
    try:
        import faiss
    finally:
        if told:
            del os.environ[CORE]
    return faiss
