"""Builds the C++ extensions of fm_index, decoding, text and vector_index; everything else is in pyproject.toml.

GEMKR_SANITIZE=address,undefined (or thread) builds them for that sanitizer instead: slow, for tests only.
"""

import os
import shutil
import sys
from pathlib import Path

from setuptools import setup

try:
    from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
except ImportError:
    sys.exit(
        "gemkr: building the extension needs pybind11 and found none; "
        "install with `pip install .` or first `pip install 'pybind11>=2.13'`"
    )


class CheckedBuild(build_ext):
    """Says what is missing before the compiler does."""

    def build_extensions(self) -> None:
        command = self.compiler.compiler_so[0] if hasattr(self.compiler, "compiler_so") else None
        if command is not None and shutil.which(command) is None:
            sys.exit(
                f"gemkr: building the extension needs a C++17 compiler and found no {command!r}; "
                "on Debian or Ubuntu: apt-get install g++ python3-dev"
            )
        try:
            super().build_extensions()
        except Exception as error:
            sys.exit(
                f"gemkr: the C++ extension could not be built ({error}); it needs a C++17 compiler "
                "(g++ 9 or newer, clang 10 or newer) and the headers of Python (python3-dev)"
            )


def flags() -> tuple[list[str], list[str]]:
    sanitize = os.environ.get("GEMKR_SANITIZE")
    if sanitize:
        options = [
            f"-fsanitize={sanitize}",
            "-fno-omit-frame-pointer",
            "-fno-sanitize-recover=all",
            "-g",
            "-O1",
        ]
        return options, [f"-fsanitize={sanitize}"]
    return ["-O3", "-g0", "-Wall", "-Wextra"], []


def extension(name: str) -> Pybind11Extension:
    """The extension whose sources are in `csrc` beside it."""
    folder = Path(*name.split(".")[:-1]) / "csrc"
    compile_flags, link_flags = flags()
    return Pybind11Extension(
        name,
        sorted(str(path) for path in folder.glob("*.cpp")),
        cxx_std=17,
        extra_compile_args=[*compile_flags, "-pthread"],
        extra_link_args=[*link_flags, "-pthread"],
        depends=sorted(str(path) for path in folder.glob("*.[hi]*")),
    )


ParallelCompile("GEMKR_BUILD_JOBS", default=0).install()
setup(
    ext_modules=[
        extension("gemkr.fm_index._core"),
        extension("gemkr.decoding._choose"),
        extension("gemkr.text._words"),
        extension("gemkr.vector_index._maxsim"),
    ],
    cmdclass={"build_ext": CheckedBuild},
)
