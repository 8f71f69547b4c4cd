"""Tasks: what labels mean. A task has a loss, a metric, and knows what a prediction is.

protocol.py         what a task is
classification.py   one label a sample; cross entropy, accuracy

A new task is a file here that fits `Task`, and its line `register(...)` below. A task of a user's own needs
no file here: a dataset may hold the object (`Data(..., task=MyTask())`).
"""

from __future__ import annotations

from ann2snn_cli import lookup
from ann2snn_cli.errors import UsageError
from ann2snn_cli.tasks.classification import Classification
from ann2snn_cli.tasks.protocol import Task
from ann2snn_cli.types import Metric

__all__ = ["TASKS", "Metric", "Task", "register", "task_named"]

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


register(Classification())
