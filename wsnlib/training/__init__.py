"""Train, evaluate, predict: one loop, for a CPU and a GPU.

The data lie on the device; the loop has no loader, no worker and no host synchronisation within
an epoch. On a GPU the step is recorded once as a CUDA graph and replayed. What makes the
batches (order, augmentation) is drawn on the CPU from the seed, so that a GPU sees those of a CPU; what
layers draw, such as dropout, follows from the seed on each kind of device.
"""

from wsnlib.training.checkpoints import Checkpoint, StateFile
from wsnlib.training.joint import train_jointly
from wsnlib.training.log import Evaluation, Outcome
from wsnlib.training.loop import evaluate, predict, train
from wsnlib.training.memory import fitting_batch_size
from wsnlib.training.moving import MovingMasks
from wsnlib.training.schedules import learning_rate_factor

__all__ = [
    "Checkpoint",
    "Evaluation",
    "MovingMasks",
    "Outcome",
    "StateFile",
    "evaluate",
    "fitting_batch_size",
    "learning_rate_factor",
    "predict",
    "train",
    "train_jointly",
]
