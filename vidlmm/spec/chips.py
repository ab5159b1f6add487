"""What one chip can do, from its vendor's data sheet: never reached, so that nothing planned from it is a promise."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    """One chip; rates are peaks.

    compiler: the name that the TPU compiler knows it by. devices: what JAX shows of one chip.
    tflops: bf16 TFLOP/s. hbm_gib: memory in GiB, which data sheets call GB. hbm_tbs: its TB/s.
    ici_gbs: GB/s that one link carries in one direction. links: of a chip in the middle of a torus.
    dcn_gbs: GB/s of its share of the network that joins slices; 0 where slices are not joined.
    source: where the numbers stand.
    """

    name: str
    compiler: str
    devices: int
    tflops: float
    hbm_gib: float
    hbm_tbs: float
    ici_gbs: float
    links: int
    dcn_gbs: float
    source: str

    @property
    def flops(self) -> float:
        """bf16 FLOP/s of one device."""
        return self.tflops * 1e12 / self.devices

    @property
    def hbm_bytes(self) -> float:
        """Memory of one device."""
        return self.hbm_gib * 2**30 / self.devices

    @property
    def hbm_rate(self) -> float:
        """Bytes/s between one device and its memory."""
        return self.hbm_tbs * 1e12 / self.devices


_BOOK = "How to Scale Your Model, chapter on TPUs; network of slices: the vendor's system pages"
CHIPS = {
    chip.name: chip
    for chip in (
        # The compiler shows the two cores of a v4 and of a 7x as two devices with half of everything.
        Chip("v4", "v4", 2, 275.0, 32.0, 1.2, 45.0, 6, 0.0, _BOOK),
        Chip("v5e", "v5e", 1, 197.0, 16.0, 0.81, 45.0, 4, 3.125, _BOOK),
        Chip("v5p", "v5", 1, 459.0, 96.0, 2.8, 90.0, 6, 6.25, _BOOK),
        Chip("v6e", "v6e", 1, 918.0, 32.0, 1.6, 90.0, 4, 12.5, _BOOK),
        Chip("tpu7x", "tpu7x", 2, 2307.0, 192.0, 7.4, 90.0, 6, 12.5, "the vendor's system page"),
    )
}
