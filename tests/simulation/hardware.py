"""Real GPUs, drivers and systems, to build machines from."""

from __future__ import annotations

from dataclasses import dataclass

from tests.simulation.facts import facts
from tests.simulation.oracle import Device
from torchinstall.core.machine import Gpu, Vendor, capability


@dataclass(frozen=True, slots=True)
class Part:
    """A GPU that one can put into a machine; `code` is its compute capability, gfx target or PCI id."""

    vendor: Vendor
    name: str
    code: str
    pci_id: str | None = None
    discrete: bool = True

    def device(self) -> Device:
        """What the oracle needs to know of it."""
        return Device(self.vendor, self.code, self.discrete)

    def gpu(self, index: int, *, bare: bool = False) -> Gpu:
        """As a machine file shows it; `bare`: the driver did not answer, only the bus did."""
        return Gpu(
            vendor=self.vendor,
            index=index,
            name=self.name,
            compute_capability=capability(self.code) if self.vendor == "nvidia" and not bare else None,
            gfx_target=self.code if self.vendor == "amd" and not bare else None,
            pci_id=self.pci_id,
            integrated=not self.discrete,
            source="pci" if bare or self.vendor == "intel" else "nvml" if self.vendor == "nvidia" else "kfd",
        )


def _nvidia(*rows: tuple[str, str, str | None]) -> tuple[Part, ...]:
    return tuple(
        Part("nvidia", name, code, f"10de:{pci_id}" if pci_id else None) for code, name, pci_id in rows
    )


NVIDIA = _nvidia(
    ("2.0", "NVIDIA GeForce GTX 480", "06c0"),
    ("3.0", "NVIDIA GeForce GTX 680", "1180"),
    ("3.5", "NVIDIA GeForce GTX 780 Ti", "100a"),
    ("3.5", "Tesla K40m", "1023"),
    ("3.7", "Tesla K80", "102d"),
    ("5.0", "NVIDIA GeForce GTX 750 Ti", "1380"),
    ("5.0", "Quadro K2200", "13ba"),
    ("5.2", "NVIDIA GeForce GTX 980", "13c0"),
    ("5.2", "Tesla M40", "17fd"),
    ("6.0", "Tesla P100-PCIE-16GB", "15f8"),
    ("6.1", "NVIDIA GeForce GTX 1080 Ti", "1b06"),
    ("6.1", "Quadro P5000", "1bb0"),
    ("6.1", "Tesla P40", "1b38"),
    ("7.0", "Tesla V100-SXM2-32GB", None),
    ("7.0", "NVIDIA TITAN V", "1d81"),
    ("7.5", "NVIDIA GeForce RTX 2080 Ti", "1e07"),
    ("7.5", "Tesla T4", "1eb8"),
    ("7.5", "Quadro RTX 6000", "1e30"),
    ("8.0", "NVIDIA A100-SXM4-80GB", None),
    ("8.0", "NVIDIA A30", "20b7"),
    ("8.6", "NVIDIA GeForce RTX 3090", "2204"),
    ("8.6", "NVIDIA RTX A6000", "2230"),
    ("8.6", "NVIDIA A40", "2235"),
    ("8.9", "NVIDIA GeForce RTX 4090", "2684"),
    ("8.9", "NVIDIA RTX 6000 Ada Generation", "26b1"),
    ("8.9", "NVIDIA L40S", "26b9"),
    ("9.0", "NVIDIA H100 80GB HBM3", "2330"),
    ("10.0", "NVIDIA B200", "2901"),
    ("10.3", "NVIDIA B300 SXM6 AC", "3182"),
    ("12.0", "NVIDIA GeForce RTX 5090", "2b85"),
    ("12.0", "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "2bb1"),
)
NVIDIA_ARM = _nvidia(
    ("9.0", "NVIDIA GH200 480GB", "2342"),
    ("10.0", "NVIDIA GB200", "2941"),
    ("10.3", "NVIDIA GB300", "31c2"),
    ("12.1", "NVIDIA GB10", "2e12"),
    ("7.5", "NVIDIA T4G", "1eb4"),
    ("8.0", "NVIDIA A100 80GB PCIe", None),
    ("8.6", "NVIDIA RTX A6000", "2230"),
    ("8.9", "NVIDIA L4", None),
    ("12.0", "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "2bb1"),
)
JETSON: tuple[tuple[Part, str, str | None, str], ...] = tuple(
    (Part("nvidia", name, code, None, discrete=False), l4t, driver, glibc)
    for name, code, l4t, driver, glibc in (
        ("Jetson Nano", "5.3", "32.7.4", None, "2.27"),
        ("Jetson TX2", "6.2", "32.7.4", None, "2.27"),
        ("Jetson AGX Xavier", "7.2", "32.7.4", None, "2.27"),
        ("Jetson AGX Xavier", "7.2", "35.5.0", None, "2.31"),
        ("Orin (nvgpu)", "8.7", "35.4.1", "510.73.08", "2.31"),
        ("Orin (nvgpu)", "8.7", "36.3.0", "540.3.0", "2.35"),
        ("Orin (nvgpu)", "8.7", "36.4.3", "540.4.0", "2.35"),
        ("Orin", "8.7", "39.2.0", "595.45.04", "2.39"),
        ("NVIDIA Thor", "11.0", "38.2.1", "580.65.06", "2.39"),
        ("NVIDIA Thor", "11.0", "39.2.0", "595.45.04", "2.39"),
    )
)
"""Board, Jetson Linux release, driver that NVML names, glibc of its Ubuntu."""

LINUX_DRIVERS = (
    "390.157",
    "418.226.00",
    "440.100",
    "450.51.06",
    "450.80.02",
    "455.45.01",
    "460.91.03",
    "465.31",
    "470.256.02",
    "495.46",
    "510.108.03",
    "515.105.01",
    "520.61.05",
    "525.60.11",
    "525.60.13",
    "525.147.05",
    "530.41.03",
    "535.261.03",
    "545.29.06",
    "550.163.01",
    "555.58.02",
    "560.35.05",
    "565.77",
    "570.86.15",
    "570.211.01",
    "575.64.05",
    "580.65.06",
    "580.126.09",
    "590.48.01",
    "595.45.04",
    "610.43.02",
    "615.36.02",
)
WINDOWS_DRIVERS = (
    "391.35",
    "425.31",
    "442.59",
    "452.06",
    "452.39",
    "457.51",
    "461.92",
    "466.77",
    "472.12",
    "475.14",
    "497.29",
    "512.95",
    "516.94",
    "522.25",
    "527.41",
    "528.33",
    "531.79",
    "537.58",
    "546.33",
    "552.44",
    "556.12",
    "560.94",
    "566.36",
    "572.16",
    "576.80",
    "580.88",
    "581.42",
    "582.28",
    "591.44",
    "596.21",
    "611.08",
    "616.41",
)
"""Windows counts its releases differently inside a branch: 472 and 475 are R470, 581 and 582 are R580."""

_APUS = {"gfx902", "gfx90c", "gfx1013", "gfx1033", "gfx1035", "gfx1036", "gfx1103"} | {
    "gfx1150",
    "gfx1151",
    "gfx1152",
    "gfx1153",
}
AMD = tuple(
    Part("amd", name, code, None, discrete=code not in _APUS)
    for code, name in (
        ("gfx803", "AMD Radeon RX 580"),
        ("gfx900", "AMD Radeon RX Vega 64"),
        ("gfx902", "AMD Radeon Vega 8 Graphics"),
        ("gfx904", "AMD Radeon Pro Vega 20"),
        ("gfx906", "AMD Radeon VII"),
        ("gfx908", "AMD Instinct MI100"),
        ("gfx90a", "AMD Instinct MI250X"),
        ("gfx90c", "AMD Radeon Graphics (Renoir)"),
        ("gfx942", "AMD Instinct MI300X"),
        ("gfx950", "AMD Instinct MI355X"),
        ("gfx1010", "AMD Radeon RX 5700 XT"),
        ("gfx1011", "AMD Radeon Pro V520"),
        ("gfx1012", "AMD Radeon RX 5500 XT"),
        ("gfx1013", "AMD BC-250"),
        ("gfx1030", "AMD Radeon RX 6900 XT"),
        ("gfx1031", "AMD Radeon RX 6700 XT"),
        ("gfx1032", "AMD Radeon RX 6600"),
        ("gfx1033", "AMD Custom GPU 0405"),
        ("gfx1034", "AMD Radeon RX 6500 XT"),
        ("gfx1035", "AMD Radeon 680M"),
        ("gfx1036", "AMD Radeon Graphics (Raphael)"),
        ("gfx1100", "AMD Radeon RX 7900 XTX"),
        ("gfx1101", "AMD Radeon RX 7800 XT"),
        ("gfx1102", "AMD Radeon RX 7600"),
        ("gfx1103", "AMD Radeon 780M"),
        ("gfx1150", "AMD Radeon 890M"),
        ("gfx1151", "AMD Radeon 8060S"),
        ("gfx1152", "AMD Radeon 860M"),
        ("gfx1153", "AMD Radeon 820M"),
        ("gfx1200", "AMD Radeon RX 9060 XT"),
        ("gfx1201", "AMD Radeon RX 9070 XT"),
        ("gfx1250", "AMD Instinct MI455X"),
    )
)

_INTEL_DISCRETE = {"BMG", "DG2", "PVC", "DG1", "CRI"}
INTEL = tuple(
    Part("intel", name or platform, pci_id, pci_id, discrete=platform in _INTEL_DISCRETE)
    for pci_id, (name, platform, _) in facts().intel.items()
)
