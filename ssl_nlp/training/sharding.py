"""A strategy of Lightning: weights, gradients and optimizer states divided among all processes."""

from lightning.pytorch.strategies import ModelParallelStrategy


class FullySharded(ModelParallelStrategy):
    """FSDP2 (arXiv:2304.11277) over all processes, however many there are.

    `ModelParallelStrategy` itself has to be told their number. A checkpoint is a single file, which any machine can load.
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Lightning's hook: begin the processes, whose number is known by now."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()
