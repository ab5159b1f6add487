"""The list of packages; everything else about the project is in pyproject.toml.

kernels/, configs/ and launch/ stand at the top level and are installed under vidlmm. The links
vidlmm/kernels etc. say the same to tools that read the folders; they are left out here, so that
a checkout without symbolic links, an sdist and an editable install all give the same list.
"""

from setuptools import find_packages, setup

TOP_LEVEL = ("configs", "kernels", "launch")
MOUNTED = {f"vidlmm.{name}": name for name in TOP_LEVEL}

packages = [
    name
    for name in find_packages(include=["vidlmm", "vidlmm.*"])
    if not any(name == mounted or name.startswith(f"{mounted}.") for mounted in MOUNTED)
]
packages += [f"vidlmm.{name}" for name in find_packages(include=[p for n in TOP_LEVEL for p in (n, f"{n}.*")])]

setup(packages=sorted(packages), package_dir=MOUNTED)
