"""Names of slices: what exists, in chips, and what is said of what does not."""

import math

import pytest

from vidlmm.spec.chips import CHIPS
from vidlmm.spec.slices import SHAPES, SliceError, find_topology


@pytest.mark.parametrize(
    ("name", "chips", "devices"),
    [("v5p:4x4x4", 64, 64), ("v5e:16x16*4", 1024, 1024), ("tpu7x:2x2x2", 8, 16), ("v6e:1x1", 1, 1), ("V4:2x2x1", 4, 8)],
)
def test_a_name_is_chips_and_devices(name: str, chips: int, devices: int) -> None:
    topology = find_topology(name)
    assert (topology.chips, topology.devices) == (chips, devices)
    assert find_topology(topology.name) == topology


def test_every_slice_of_the_table_exists_and_is_named_by_itself() -> None:
    for chip, shapes in SHAPES.items():
        sizes = [math.prod(map(int, shape.split("x"))) for shape in shapes]
        assert sizes == sorted(sizes), chip
        assert max(sizes) <= (256 if CHIPS[chip].links == 4 else 6144)
        for shape in shapes:
            assert find_topology(f"{chip}:{shape}").name == f"{chip}:{shape}"
            assert len(find_topology(f"{chip}:{shape}").shape) == CHIPS[chip].links // 2


def test_an_unknown_topology_lists_the_known_ones() -> None:
    with pytest.raises(SliceError) as raised:
        find_topology("h100:8")
    for chip, shapes in SHAPES.items():
        assert f"{chip}:" in str(raised.value)
        assert all(shape in str(raised.value) for shape in shapes)
    with pytest.raises(SliceError, match=r"there is no 'v5p:3x3x3'; known are v5p:\{2x2x1,"):
        find_topology("v5p:3x3x3")
    with pytest.raises(SliceError, match="known are v6e"):
        find_topology("v6e")


def test_what_nobody_sells_is_several_slices() -> None:
    with pytest.raises(SliceError, match=r"1024 chips are 4 of them, v5e:16x16\*4"):
        find_topology("v5e:32x32")
    with pytest.raises(SliceError, match="slices of v4 are not joined"):
        find_topology("v4:4x4x4*2")
    with pytest.raises(SliceError, match="at least 1"):
        find_topology("v5e:4x4*0")


def test_rings_close_where_the_torus_is_whole() -> None:
    assert find_topology("v5e:16x16").wrap == (True, True)
    assert find_topology("v5e:8x16").wrap == (False, True)
    assert find_topology("v5p:4x4x8").wrap == (True, True, True)
    assert find_topology("v5p:2x4x4").wrap == (False, False, False)


def test_two_devices_of_a_chip_share_it() -> None:
    chip = CHIPS["tpu7x"]
    assert chip.devices * chip.flops == pytest.approx(2307e12)
    assert chip.devices * chip.hbm_bytes == 192 * 2**30
    assert chip.devices * chip.hbm_rate == pytest.approx(7.4e12)
