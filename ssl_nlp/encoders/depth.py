"""The layers of an encoder, and how deep each of its parts lies: what freezing, layer-wise rates and FSDP go by."""

from torch import nn


def layers_of(encoder: nn.Module) -> nn.ModuleList:
    """The layers of an encoder: the longest of its lists of modules, an empty one if it has none."""
    stacks = [module for module in encoder.modules() if isinstance(module, nn.ModuleList)]
    return max(stacks, key=len, default=nn.ModuleList())


def depths(encoder: nn.Module) -> dict[nn.Module, int]:
    """The depth of each module of an encoder with L layers.

    0 for the embeddings: all that comes before the layers, and every table of embeddings, such as that of relative
    positions. 1 to L for the layers and what is in them. L + 1 for the rest, such as the last norm.
    """
    layers = layers_of(encoder)
    within = {module: depth for depth, layer in enumerate(layers, start=1) for module in layer.modules()}
    found: dict[nn.Module, int] = {}
    before = len(layers) > 0
    for module in encoder.modules():
        before = before and module not in within
        outside = 0 if before or isinstance(module, nn.Embedding) else len(layers) + 1
        found[module] = within.get(module, outside)
    return found


def parameter_depths(encoder: nn.Module) -> dict[nn.Parameter, int]:
    """The depth of each parameter: that of the first module that has it."""
    found: dict[nn.Parameter, int] = {}
    for module, depth in depths(encoder).items():
        for parameter in module.parameters(recurse=False):
            found.setdefault(parameter, depth)
    return found
