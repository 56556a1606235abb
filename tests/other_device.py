"""A device that is not the CPU, in Python: computations run on the CPU, but tensors of both do not mix.

It shows on any machine what otherwise only a GPU would show: a tensor that was left behind, or made on the wrong device. It
cannot be taken back, so a process of its own installs it.

    device = install()
    with OtherDevice():
        model.to(device)
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

NAME = "elsewhere"
ATEN = torch.ops.aten
COPIES = (ATEN._to_copy.default, ATEN.copy_.default)
INDEXED = (ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default)
JOINED = (ATEN.cat.default, ATEN.stack.default)


class Elsewhere(Tensor):
    """A tensor on the other device, with one on the CPU inside."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Elsewhere":
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "layout": inner.layout}
        made: Elsewhere = Tensor._make_wrapper_subclass(
            cls, inner.size(), dtype=inner.dtype, device=torch.device(NAME, 0), **layout
        )
        made.inner = inner
        return made

    def tolist(self) -> Any:
        return self.inner.tolist()

    def numpy(self, **options: Any) -> Any:
        raise TypeError(f"a tensor on {NAME} has no NumPy array: copy it to the CPU first")

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        return dispatch(function, args, kwargs or {})


class OtherDevice(TorchDispatchMode):
    """Within it, tensors can be made on the device."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        return dispatch(function, args, kwargs or {})


def dispatch(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Compute with what is inside.

    Raises:
        RuntimeError: tensors of both devices meet. As on a GPU, a scalar may come from the CPU, and so may indices of a
            tensor that is there.
    """
    flat, spec = pytree.tree_flatten((args, dict(kwargs)))
    tensors = [one for one in flat if isinstance(one, Tensor)]
    there = [one for one in tensors if isinstance(one, Elsewhere)]
    strict = tensors
    if function in INDEXED and isinstance(args[0], Elsewhere):
        strict = list(args[2:3])  # the new values
    elif function in COPIES:
        strict = []
    left = [one for one in strict if not isinstance(one, Elsewhere) and (one.dim() > 0 or function in JOINED)]
    if there and left:
        raise RuntimeError(f"{function}: a tensor of shape {tuple(left[0].shape)} is on the CPU, others on {NAME}")
    wanted = kwargs.get("device")
    goes_there = bool(there) if wanted is None else torch.device(wanted).type == NAME
    if function is ATEN.copy_.default:
        goes_there = isinstance(args[0], Elsewhere)
    args, kwargs = pytree.tree_unflatten([_inside(one) for one in flat], spec)
    found = function(*args, **kwargs)
    known = {id(one.inner): one for one in there}  # what was changed in place stays the same tensor

    def wrap(one: Any) -> Any:
        if not isinstance(one, Tensor) or isinstance(one, Elsewhere):
            return one
        return known[id(one)] if id(one) in known else Elsewhere(one)

    return pytree.tree_map(wrap, found) if goes_there else found


def _inside(value: Any) -> Any:
    if isinstance(value, Elsewhere):
        return value.inner
    return torch.device("cpu") if isinstance(value, torch.device) and value.type == NAME else value


class Backend(backend_registration._DummyBackendModule):
    """The functions that torch requires of a device type. Random numbers come from the CPU's generator."""

    def get_rng_state(self, device: Any = None) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        """`torch.random.fork_rng` has restored the state already."""

    def manual_seed(self, seed: int) -> None:
        """The CPU has been seeded."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def device(self, device: Any) -> AbstractContextManager[None]:
        return nullcontext()


def install() -> torch.device:
    """Make the device known to torch, and return it."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, Backend())
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # modules would keep the class of their weights
    generator = torch.Generator
    for name, function in {
        "tensor": _moved_after(torch.tensor),
        "as_tensor": _moved_after(torch.as_tensor),
        "Generator": lambda device="cpu": generator("cpu"),
    }.items():
        setattr(torch, name, function)
    return torch.device(NAME, 0)


def _moved_after(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """These functions of torch copy the data below the level at which `OtherDevice` sees it."""

    def made(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        found = data if isinstance(data, Elsewhere) else make(data, *args, **kwargs)
        return found if device is None else found.to(device)

    return made
