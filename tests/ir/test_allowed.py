"""The operators that an `Opaque` may name: those of the list, and nothing else that torch has."""

import pytest
import torch

from ann2snn_cli.errors import UnsupportedNetwork
from ann2snn_cli.ir import allowed
from ann2snn_cli.ir.ops import Opaque, Ref

HARMFUL = {
    "creates a file": "aten.from_file.default",
    "changes a tensor's storage": "aten.set_.source_Tensor",
    "resizes in place": "aten.resize_.default",
    "resizes, said to be pure": "aten.resize.default",
    "waits for a device": "aten.record_stream.default",
    "writes in place": "aten.relu_.default",
    "writes into an argument": "aten.gelu.out",
    "pins memory": "aten.pin_memory.default",
    "raises by value": "aten._assert_async.default",
    "prints": "aten._print.default",
    "gives a number": "aten.item.default",
    "unfilled memory": "aten.empty.memory_format",
    "sparse": "aten._to_sparse.default",
    "quantized": "aten.quantize_per_tensor.default",
    "reads beyond its values": "aten.as_strided.default",
    "a list of Python's": "aten.append.t",
    "another library": "torchvision.nms.default",
    "another namespace of torch": "prims.add.default",
    "a profiler": "profiler._record_function_enter.default",
    "no overload": "aten.gelu",
    "a class attribute": "aten.__class__.x",
    "an attribute of the packet": "aten.gelu.__call__",
    "a method of the packet": "aten.gelu.overloads",
    "an attribute of the namespace": "aten.name.default",
    "a longer path": "aten.gelu.default.__globals__",
    "a line break": "aten.gelu.default\n",
    "nothing": "",
}


@pytest.mark.parametrize("what", HARMFUL)
def test_what_does_more_than_compute_is_refused(what):
    """Neither looked up nor constructed; the error names the operator, the remedy a way out."""
    target = HARMFUL[what]
    with pytest.raises(UnsupportedNetwork) as caught:
        allowed.operator(target)
    assert caught.value.what.startswith(target)
    assert "rule" in caught.value.remedy
    with pytest.raises(UnsupportedNetwork):
        Opaque(target, (Ref(0),))


RANDOM = [
    "rand",
    "randn_like",
    "bernoulli",
    "multinomial",
    "normal_functional",
    "dropout",
    "poisson",
    "randperm",
]


@pytest.mark.parametrize("name", RANDOM)
def test_random_operators_are_refused_as_such(name):
    """A second run would differ from the first."""
    overloads = getattr(torch.ops.aten, name).overloads()
    assert overloads
    for overload in overloads:
        assert allowed.refusal(f"aten.{name}.{overload}")
    assert "random" in allowed.refusal(f"aten.{name}.{overloads[0]}")


def test_every_name_on_the_list_is_an_operator_of_torch_with_an_overload_that_may_run():
    """No entry is misspelled, and the second fence does not shut the list."""
    assert len(allowed.NAMES) > 300
    for name in allowed.NAMES:
        overloads = getattr(torch.ops.aten, name).overloads()
        assert any(not allowed.refusal(f"aten.{name}.{overload}") for overload in overloads), name


def test_nothing_on_the_list_writes_or_draws_by_torchs_own_account():
    """All that may run is pure by its schema; where torch says random, an argument decides and is checked."""
    runnable = 0
    for name in allowed.NAMES:
        for overload in getattr(torch.ops.aten, name).overloads():
            if allowed.refusal(f"aten.{name}.{overload}"):
                continue
            runnable += 1
            found = getattr(getattr(torch.ops.aten, name), overload)
            assert not found._schema.is_mutable
            seeded = torch.Tag.nondeterministic_seeded in found.tags
            assert not seeded or name in allowed.SETTLED, found
            assert not any(word in str(found._schema) for word in ("filename", "Storage", "Stream"))
    assert runnable > 400


@pytest.mark.parametrize("target", ["aten.gelu.default", "aten.layer_norm.default", "aten.topk.default"])
def test_what_is_allowed_is_torchs_own_operator(target):
    """`operator` gives the very overload."""
    _, name, overload = target.split(".")
    assert allowed.operator(target) is getattr(getattr(torch.ops.aten, name), overload)


WEIGHT = torch.ones(2)
ARGUMENTS = {
    "attention that drops": ("aten.scaled_dot_product_attention.default", (1, 1, 1, None, 0.5), {}),
    "the same by name": ("aten.scaled_dot_product_attention.default", (1, 1, 1), {"dropout_p": 0.5}),
    "an LSTM in training": ("aten.lstm.input", (1, (), (), True, 1, 0.5, True, False, True), {}),
    "a random slope": ("aten.rrelu.default", (1, 0.1, 0.3, True), {}),
    "a batch norm in training": (
        "aten.batch_norm.default", (1, WEIGHT, WEIGHT, WEIGHT, WEIGHT, True, 0.1, 1e-5, True), {},
    ),
    "an instance norm in training": (
        "aten.instance_norm.default", (1, WEIGHT, WEIGHT, WEIGHT, WEIGHT, True, 0.1, 1e-5, True), {},
    ),
    "a device of its own": ("aten.zeros.default", ((2,),), {"device": "cuda:7"}),
    "pinned memory": ("aten.zeros.default", ((2,),), {"pin_memory": True}),
    "a layout of its own": ("aten.zeros.default", ((2,),), {"layout": torch.sparse_coo}),
    "an argument too many": ("aten.relu.default", (1, 2), {}),
    "an unknown argument": ("aten.relu.default", (1,), {"out": WEIGHT}),
    "a sparse tensor": ("aten.add.Tensor", (1, torch.eye(2).to_sparse()), {}),
    "a sparse tensor within": ("aten.cat.default", ((1, torch.eye(2).to_sparse()),), {}),
}  # fmt: skip


@pytest.mark.parametrize("what", ARGUMENTS)
def test_arguments_that_make_an_operator_do_more_are_refused(what):
    """An allowed operator with arguments that are not."""
    target, args, kwargs = ARGUMENTS[what]
    with pytest.raises(UnsupportedNetwork, match=target):
        allowed.check(target, args, kwargs)


@pytest.mark.parametrize(
    ("target", "args"),
    [
        ("aten.scaled_dot_product_attention.default", (1, 1, 1)),
        ("aten.lstm.input", (1, (), (), True, 1, 0.5, False, False, True)),
        ("aten.batch_norm.default", (1, WEIGHT, WEIGHT, WEIGHT, WEIGHT, False, 0.1, 1e-5, True)),
        ("aten.batch_norm.default", (1, WEIGHT, WEIGHT, None, None, True, 0.1, 1e-5, True)),
        ("aten.gelu.default", (Ref(0),)),
    ],
)
def test_arguments_that_do_not_are_taken(target, args):
    """The same operators without dropout, and without statistics to write."""
    allowed.check(target, args, {})


def test_tensors_without_values_are_refused_from_files():
    """Sparse and meta tensors; a dense one is taken."""
    assert "sparse" in allowed.refusal_of_tensor(torch.eye(2).to_sparse())
    assert "no values" in allowed.refusal_of_tensor(torch.ones(2, device="meta"))
    assert not allowed.refusal_of_tensor(torch.ones(2))
