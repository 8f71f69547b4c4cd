"""Devices: what is there is taken, what is not is refused, and GPUtil gives a hint, never more."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch

import ann2snn_cli
from ann2snn_cli import devices
from ann2snn_cli.__main__ import main
from ann2snn_cli.errors import UsageError


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that torch sees GPUs with these UUIDs; gives the function that says so."""

    def pretend(*uuids):
        found = [SimpleNamespace(name="H", total_memory=2**31, uuid=uuid) for uuid in uuids]
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(found))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(found))
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: found[index])

    return pretend


@pytest.fixture
def gputil(monkeypatch):
    """Pretend that GPUtil reports these (uuid, free memory); gives the function that says so."""

    def pretend(report):
        def get_gpus():
            if isinstance(report, Exception):
                raise report
            return [SimpleNamespace(uuid=uuid, memoryFree=free) for uuid, free in report]

        monkeypatch.setitem(sys.modules, "GPUtil", SimpleNamespace(getGPUs=get_gpus))

    return pretend


def test_cpu_is_always_there(gpus):
    """`cpu` is the CPU, GPUs or not; `auto` is the CPU where there is no GPU."""
    gpus("a")
    assert devices.pick("cpu") == torch.device("cpu")
    gpus()
    assert devices.pick("auto") == torch.device("cpu")
    assert devices.pick() == torch.device("cpu")


def test_named_gpus(gpus):
    """`cuda` is the first GPU, `cuda:N` the N-th."""
    gpus("a", "b")

    assert devices.pick("cuda") == torch.device("cuda", 0)
    assert devices.pick("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("present", "device", "what", "choices"),
    [
        ((), "cuda", "there is no cuda: torch sees 0 GPUs", "use auto, cpu"),
        (("a",), "cuda:1", "there is no cuda:1: torch sees 1 GPU", "use auto, cpu, cuda:0"),
        ((), "gpu", "unknown device 'gpu'", "use auto, cpu"),
        (("a",), "cuda:x", "unknown device 'cuda:x'", "use auto, cpu, cuda:0"),
    ],
)
def test_devices_that_are_not_there(gpus, present, device, what, choices):
    """A wrong device is a usage error that lists the right ones."""
    gpus(*present)

    with pytest.raises(UsageError) as caught:
        devices.pick(device)

    assert caught.value.what == what
    assert caught.value.remedy.startswith(choices)


def test_auto_takes_the_gpu_with_the_most_free_memory(gpus, gputil):
    """GPUs are matched by UUID: the driver counts them in another order than torch, and more of them."""
    gpus("AA", "bb")
    gputil([("GPU-cc", 90), ("GPU-bb", 50), ("GPU-aa", 10)])

    assert devices.pick("auto") == torch.device("cuda", 1)


@pytest.mark.parametrize(
    "report",
    [
        [],
        [("GPU-xx", 50)],
        [("GPU-aa", float("nan")), ("GPU-bb", float("nan"))],
        ValueError("invalid literal for int()"),
        ModuleNotFoundError("No module named 'distutils'"),
    ],
)
def test_auto_without_a_hint_takes_the_first(gpus, gputil, report):
    """No nvidia-smi, a sick driver, MIG, [N/A]: whatever GPUtil makes of it, a GPU is taken."""
    gpus("aa", "bb")
    gputil(report)

    assert devices.pick("auto") == torch.device("cuda", 0)


def test_a_memory_that_is_not_reported_counts_as_full(gpus, gputil):
    """A GPU known to have room comes before one of which nothing is known."""
    gpus("aa", "bb")
    gputil([("GPU-aa", float("nan")), ("GPU-bb", 1)])

    assert devices.pick("auto") == torch.device("cuda", 1)


def test_gputil_is_not_asked_about_a_single_gpu(gpus, gputil):
    """One GPU leaves nothing to choose: nvidia-smi is not started."""
    gpus("aa")
    gputil(AssertionError("asked"))
    sys.modules["GPUtil"].getGPUs = lambda: pytest.fail("asked")

    assert devices.pick("auto") == torch.device("cuda", 0)


def test_describe_is_plain_and_complete(gpus):
    """`env` can print it as JSON: versions, GPUs, and what auto takes."""
    gpus("aa")

    described = json.loads(json.dumps(devices.describe()))

    assert described["torch"] == torch.__version__
    assert described["gpus"] == [{"device": "cuda:0", "name": "H", "memory_mib": 2048}]
    assert described["auto"] == "cuda:0"
    assert {"python", "cuda", "cpu_threads"} <= set(described)


def test_threads_are_those_that_are_asked_for():
    """0 leaves torch's own number; any other is torch's from then on."""
    before = torch.get_num_threads()
    try:
        devices.use_threads(0)
        assert torch.get_num_threads() == before
        devices.use_threads(before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_the_command_line_and_python_set_threads():
    """`--threads` of a command and `threads` of `convert` are the same setting."""
    before = torch.get_num_threads()
    try:
        assert main(["simulate", "missing_snn.pth", "--threads", str(before + 1)]) == 2
        assert torch.get_num_threads() == before + 1
        network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
        ann2snn_cli.convert(network, torch.rand(4, 2), threads=before + 2)
        assert torch.get_num_threads() == before + 2
    finally:
        torch.set_num_threads(before)
