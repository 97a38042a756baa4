"""faiss multiplies as numpy does on this processor, and nothing is left in the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, os
import numpy
from threadpoolctl import threadpool_info
from gemkr.vector_index.faiss_library import CORE, load_faiss
load_faiss()
found = [lib["architecture"] for lib in threadpool_info() if lib["internal_api"] == "openblas"]
print(json.dumps([found, os.environ.get(CORE)]))
"""


@pytest.mark.parametrize("chosen", [None, "Haswell"])
def test_every_copy_of_openblas_is_for_one_processor(chosen: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    if chosen is not None:
        environment["OPENBLAS_CORETYPE"] = chosen
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=environment
    )
    architectures, left = json.loads(done.stdout)
    assert left == chosen
    if len(architectures) < 2:
        pytest.skip(f"numpy and faiss do not both come with an OpenBLAS here: {architectures}")
    assert len(set(architectures)) == 1
