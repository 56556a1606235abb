"""Lightning's Trainer as a run uses it: settings that cannot train are refused in one line, the others are fitted to it.

Errors that Lightning raises later become one line, too (`lightning_errors`). `tests/end_to_end/test_trainer_arguments.py`
tries each argument of the Trainer.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler

from ssl_nlp.errors import UserError, refuse
from ssl_nlp.training.callbacks import ProgressLines
from ssl_nlp.training.precision import cpu_multiplies_bfloat16

PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}
FINDERS = ("LearningRateFinder", "BatchSizeFinder")
CPU_PROCESSES = 8  # which a machine with fewer cores may run, too


def check(settings: Namespace, command: str) -> None:
    """Refuse settings that cannot train, or would train something other than a run.

    Args:
        settings: the arguments of the Trainer.
        command: `fit`, `validate`, `test` or `predict`.

    Raises:
        UserError: it lists every problem, in one line.
    """
    steps, epochs = settings.max_steps, settings.max_epochs
    problems = {
        f"devices {settings.devices}: use 1 or more": settings.devices in (0, "0", []),
        f"devices {settings.devices} on CPUs: use at most {_most_processes()}, the cores of this machine or a few more": (
            settings.accelerator == "cpu" and _number(settings.devices) > _most_processes()
        ),
        f"num_nodes {settings.num_nodes}: use 1 or more": settings.num_nodes < 1,
    }
    if command == "fit":
        interval, every = settings.val_check_interval, settings.check_val_every_n_epoch
        problems |= {
            "enable_checkpointing false: a run cannot be resumed, used or compared without checkpoints: leave it out "
            "(--checkpoint_every N writes fewer)": settings.enable_checkpointing is False,
            "barebones: a run needs the metrics, validations and checkpoints that it turns off: leave it out, or use "
            "Trainer(barebones=True) in Python": settings.barebones,
            f"max_steps {steps}: use 1 or more, or -1 for no limit": steps == 0 or steps < -1,
            f"max_epochs {epochs}: use 1 or more, or -1 for no limit": (
                epochs is not None and (epochs == 0 or epochs < -1)
            ),
            f"min_steps {settings.min_steps} is above max_steps {steps}: lower it, or raise max_steps": (
                settings.min_steps is not None and 0 < steps < settings.min_steps
            ),
            f"min_epochs {settings.min_epochs} is above max_epochs {epochs}: lower it, or raise max_epochs": (
                settings.min_epochs is not None and epochs is not None and 0 < epochs < settings.min_epochs
            ),
            f"min_steps {settings.min_steps}, min_epochs {settings.min_epochs}: use 0 or more": (
                min(settings.min_steps or 0, settings.min_epochs or 0) < 0
            ),
            f"limit_train_batches {settings.limit_train_batches}: nothing would be trained: use 1 or more, or a share": (
                settings.limit_train_batches == 0
            ),
            f"gradient_clip_val {settings.gradient_clip_val}: use a positive norm, or null for no clipping": (
                settings.gradient_clip_val is not None
                and not (settings.gradient_clip_val >= 0 and math.isfinite(settings.gradient_clip_val))
            ),
            f"accumulate_grad_batches {settings.accumulate_grad_batches}: use 1 or more": (
                settings.accumulate_grad_batches < 1
            ),
            f"default_root_dir {settings.default_root_dir}: all files of a run are in runs/NAME: leave it out": (
                settings.default_root_dir is not None
            ),
            f"model_registry {settings.model_registry}: checkpoints are kept in runs/NAME: leave it out": (
                settings.model_registry is not None
            ),
            f"log_every_n_steps {settings.log_every_n_steps}: use 1 or more": (
                settings.log_every_n_steps is not None and settings.log_every_n_steps < 1
            ),
            f"check_val_every_n_epoch {every}: use 1 or more, or null to count val_check_interval over epochs": (
                every is not None and every < 1
            ),
            f"val_check_interval {interval}: use a number of batches (1 or more) or a share of an epoch up to 1.0": (
                isinstance(interval, int | float) and (interval <= 0 or (interval > 1 and interval % 1 != 0))
            ),
            f"val_check_interval {interval} is a share of an epoch, and check_val_every_n_epoch null counts batches over "
            "epochs: set --trainer.check_val_every_n_epoch 1, too": (
                isinstance(interval, float) and 0 < interval <= 1 and every is None
            ),
            f"overfit_batches {settings.overfit_batches}: use 0 or more": settings.overfit_batches < 0,
            f"num_sanity_val_steps {settings.num_sanity_val_steps}: use 0 or more, or -1 for all batches": (
                settings.num_sanity_val_steps is not None and settings.num_sanity_val_steps < -1
            ),
            "precision 16-true: float16 loses small gradients and AdamW's eps, and the training diverges: use bf16-true, "
            "bf16-mixed or 16-mixed": settings.precision in ("16-true", "transformer-engine-float16"),
        }
        problems |= _callback_problems(settings)
    refuse(problems, "trainer")


def _callback_problems(settings: Namespace) -> dict[str, bool]:
    given = settings.callbacks or []
    names = [str(c.get("class_path", "")).rsplit(".", 1)[-1] for c in (given if isinstance(given, list) else [given])]
    finder = next((name for name in names if name in FINDERS), "")
    endless = settings.max_steps != -1 or settings.max_epochs in (None, -1)
    return {
        f"callbacks: {finder} changes a setting without a trace in config.yaml: try several values in runs of their own, "
        "as configs/sweeps does": bool(finder),
        "callbacks: StochasticWeightAveraging takes effect only at the end of the last epoch: set --trainer.max_epochs N "
        "--trainer.max_steps -1, or use EMAWeightAveraging": "StochasticWeightAveraging" in names and endless,
    }


def _number(devices: Any) -> int:
    if isinstance(devices, list):
        return len(devices)
    return int(devices) if str(devices).isdecimal() else 0


def _most_processes() -> int:
    return max(CPU_PROCESSES, os.cpu_count() or 1)


def fit_into_run(trainer: dict[str, Any], own: Sequence[Callback], checkpoints: Path) -> list[Callback]:
    """Our callbacks that a run needs beside those of the user.

    Args:
        trainer: arguments of the Trainer, their objects created; a `ModelCheckpoint` without a folder gets one.
        own: all our callbacks.
        checkpoints: the folder of the run's checkpoints.
    """
    given = trainer.get("callbacks") or []
    for callback in given if isinstance(given, list) else [given]:
        if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
            callback.dirpath = str(checkpoints / "extra")  # its last.ckpt is not the run's
    bars = any(isinstance(callback, ProgressBar) for callback in (given if isinstance(given, list) else [given]))
    if bars or trainer.get("enable_progress_bar") is False:
        own = [mine for mine in own if not isinstance(mine, ProgressBar | ProgressLines)]
    return list(own)


def profiler_in(folder: Path, profiler: Profiler | str | None) -> Profiler | str | None:
    """The profiler, with `FUNCTION-profile.txt` in `folder` as the file of its report if it has none."""
    if isinstance(profiler, str) and (kind := PROFILERS.get(profiler.lower())):
        return kind(dirpath=folder, filename="profile")
    if isinstance(profiler, Profiler) and profiler.dirpath is None and profiler.filename is None:
        profiler.dirpath, profiler.filename = folder, "profile"
    return profiler


def default_precision(accelerator: object) -> Literal["bf16-mixed", "16-mixed", "32-true"]:
    """The fastest safe precision: bfloat16 on GPUs and CPUs that have instructions for it."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    if accelerator in ("auto", "cpu") and cpu_multiplies_bfloat16() and not torch.backends.mps.is_available():
        return "bf16-mixed"
    return "32-true"


@contextmanager
def lightning_errors() -> Iterator[None]:
    """Turn Lightning's errors about a wrong configuration into one line.

    Every MisconfigurationException is about one. Other errors are if Lightning's own code raised them: out of a model or
    another library they are bugs, and keep their traceback.

    Raises:
        UserError: in place of Lightning's error.
    """
    try:
        yield
    except (MisconfigurationException, ImportError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        if "Neither `tensorboard` nor `tensorboardX` is available" in str(error):
            remedy = "pip install 'ssl_nlp[tensorboard]'"
            raise UserError(f"trainer.logger: TensorBoardLogger needs the package tensorboard: {remedy}") from error
        if isinstance(error, MisconfigurationException) or _raised_by(error).startswith("lightning."):
            message = " ".join(str(error).split())
            if "Please increase the `limit_" in message:
                message += ", or a larger overfit_batches if that is set, which takes its place"
            raise UserError(f"trainer: {message}") from error
        raise


def _raised_by(error: BaseException) -> str:
    """The module that raised an error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", ""))
