"""Precisions that a processor computes quickly."""

import torch


def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for matrix products in bfloat16."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
