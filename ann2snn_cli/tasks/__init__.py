"""Tasks: what labels mean. A task has a loss, a metric, and knows what a prediction is.

protocol.py         what a task is
classification.py   one class a sample; cross entropy, accuracy
regression.py       numbers a sample; mean squared error and its root
segmentation.py     a class a pixel; cross entropy, mean IoU
detection.py        boxes with classes; focal loss and L1, mean average precision

Which task data are for, a dataset says, or else its labels show (`task_of`).
A new task is a file here that fits `Task`, and its line `register(...)` below. A task of a user's own needs
no file here: a dataset may hold the object (`Data(..., task=MyTask())`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ann2snn_cli import lookup
from ann2snn_cli.errors import Setting, UsageError
from ann2snn_cli.tasks.classification import Classification
from ann2snn_cli.tasks.detection import Detection
from ann2snn_cli.tasks.protocol import Task
from ann2snn_cli.tasks.regression import Regression
from ann2snn_cli.tasks.segmentation import Segmentation
from ann2snn_cli.types import Headline, Labels, Metric

__all__ = [
    "AUTO",
    "TASKS",
    "Headline",
    "Metric",
    "Task",
    "refuse_other_task",
    "register",
    "task_named",
    "task_note",
    "task_of",
]

AUTO = "auto"  # as the name of a task: the one that the labels show
TASKS: dict[str, Task] = {}


def register(task: Task) -> None:
    """Make a task known by its name; a name that is taken is refused."""
    if task.name in TASKS:
        taken = type(TASKS[task.name]).__name__
        remedy = "give the new one another name"
        raise UsageError(f"there is a task {task.name!r} already: {taken}", remedy=remedy)
    TASKS[task.name] = task


def task_named(task: str | Task) -> Task:
    """The task of this name; a task that is given as an object is taken as it is."""
    if not isinstance(task, str):
        return task
    if task not in TASKS:
        raise lookup.unknown("task", task, TASKS)
    return TASKS[task]


def task_of(labels: Labels, asked: str = AUTO) -> str:
    """The task that was asked for; for `auto` the one that such labels are for.

    Floats that are all whole numbers may be classes in the wrong type: classification refuses them in words.
    """
    if asked != AUTO:
        return task_named(asked).name
    if not isinstance(labels, Tensor):
        return "detection" if isinstance(labels, Mapping) and "boxes" in labels else "classification"
    if labels.is_floating_point():
        return "regression" if bool((labels != labels.round()).any()) else "classification"
    return "segmentation" if labels.dim() == 3 and labels.dtype != torch.bool else "classification"


def task_note(task: str, asked: str) -> tuple[str, ...]:
    """What to say of a task that was found by labels of a kind that may be a mistake."""
    if asked != AUTO or task == "classification":
        return ()
    return (f"the task is {task}, as the labels are {_SHOWN[task]}",)


_SHOWN = {"regression": "real numbers", "segmentation": "maps of whole numbers", "detection": "boxes"}


def refuse_other_task(task: str | Task, asked: str, data: str) -> None:
    """Refuse to take data for another task than they are for."""
    own = task_named(task).name
    if asked not in (AUTO, own):
        raise UsageError(
            f"{data} is for {own}, not for {task_named(asked).name}",
            where=str(Setting("task", asked)),
            remedy=f"leave {Setting('task')} out, or give other data with {Setting('dataset')}",
        )


register(Classification())
register(Regression())
register(Segmentation())
register(Detection())
