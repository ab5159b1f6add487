"""The public surface, and what can be imported where little is installed."""

import subprocess
import sys

import pytest

import vidlmm


@pytest.mark.parametrize("name", [name for name in dir(vidlmm) if name != "__version__"])
def test_every_public_name_is_there(name):
    assert getattr(vidlmm, name) is getattr(sys.modules[vidlmm._HOME[name]], name)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(AttributeError, match="no public name 'from_nowhere'.*ModelSpec"):
        vidlmm.__getattr__("from_nowhere")


@pytest.mark.parametrize("module", ["kernels", "models", "losses", "parallel", "train.step"])
def test_the_device_side_imports_on_a_bare_jax_machine(module):
    blocked = "".join(f"sys.modules[{name!r}] = None; " for name in ("grain", "av", "ml_collections"))
    subprocess.run([sys.executable, "-c", f"import sys; {blocked}import vidlmm.{module}"], check=True)
