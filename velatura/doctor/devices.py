"""The devices that torch can compute on here, and what each offers; torch is imported when asked."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from velatura.doctor import machine

MPS_BF16 = 14
"""The first macOS in which Apple's devices know bf16."""


@dataclass(frozen=True)
class Device:
    """One device."""

    kind: str
    """As torch names it: "cuda", "mps" or "cpu"."""
    title: str
    total: int | None
    """Bytes of memory in all; None where the system does not say."""
    free: int | None
    bf16: bool
    """It computes in bf16 itself."""


def devices() -> list[Device]:
    """Every kind of device that can be used; the processor is always the last."""
    import torch

    found = []
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        title = torch.cuda.get_device_name()
        found.append(Device("cuda", title, total, free, torch.cuda.get_device_capability() >= (8, 0)))
    total_here, free_here = machine.memory() or (None, None)
    if torch.backends.mps.is_available():
        version = int(platform.mac_ver()[0].partition(".")[0] or 0)
        found.append(Device("mps", "Apple's graphics", total_here, free_here, version >= MPS_BF16))
    found.append(Device("cpu", "the processor", total_here, free_here, processor_has_bf16()))
    return found


def processor_has_bf16() -> bool:
    """Whether the processor computes in bf16 itself; without such units bf16 is slower than fp32."""
    import torch

    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported", "_is_arm_bf16_supported")
    asked = (getattr(torch.cpu, name, None) for name in names)
    return any(ask is not None and ask() for ask in asked)
