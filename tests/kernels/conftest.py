"""What the tests of several kernels need."""

import jaxtyping
import pytest


@pytest.fixture
def untyped():
    """Without the checks of annotations, which tests have and a user's process does not."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
