"""Trees of tensors: what is done to a tree is done to each of its tensors, and the tree keeps its form."""

from collections import namedtuple

import pytest
import torch
from torch import nn

from ann2snn_cli import trees
from ann2snn_cli.errors import BadData

Pair = namedtuple("Pair", ["first", "second"])


def counted(samples=6, start=0):
    """A nested tree whose tensors count from numbers of their own."""
    numbers = torch.arange(start, start + samples)
    return {"a": numbers, "b": [numbers + 100, Pair(numbers + 200, (numbers.reshape(-1, 1) + 300,))]}


def plain(tree):
    """The tree with lists for its tensors, to be compared."""
    return trees.map_leaves(lambda leaf: leaf.flatten().tolist(), tree)


def test_the_form_is_kept():
    """A dict stays a dict, a list a list, a named tuple what it is; the tensors that went in stay."""
    tree = counted(2)
    doubled = trees.map_leaves(lambda leaf: 2 * leaf, tree)

    assert plain(doubled) == {"a": [0, 2], "b": [[200, 202], Pair([400, 402], ([600, 602],))]}
    assert isinstance(doubled["b"][1], Pair)
    assert plain(tree) == plain(counted(2))


def test_samples_are_chosen_from_every_tensor():
    """By indices or by a slice."""
    assert plain(trees.index(counted(), torch.tensor([4, 1]))) == {
        "a": [4, 1], "b": [[104, 101], Pair([204, 201], ([304, 301],))],
    }  # fmt: skip
    assert plain(trees.index(counted(), slice(2, 4)))["b"][1] == Pair([202, 203], ([302, 303],))


def test_trees_are_joined_tensor_by_tensor():
    """What was cut apart is whole again."""
    parts = [trees.index(counted(), slice(i, i + 2)) for i in (0, 2, 4)]
    assert plain(trees.cat(parts)) == plain(counted())


def test_a_single_tensor_is_a_tree():
    """Everything holds for it."""
    x = torch.arange(4)
    assert torch.equal(trees.cat([trees.index(x, slice(2)), x[2:]]), x)
    assert trees.leaves(x) == [x]
    assert trees.sample_count(x) == 4


def test_a_tree_moves_as_a_whole():
    """The meta device needs no GPU."""
    assert all(leaf.device.type == "meta" for leaf in trees.leaves(trees.to(counted(), "meta")))


def test_tensors_are_named_as_python_would_write_them():
    """So that an error can say which one."""
    names = [name for name, _ in trees.named_leaves(counted(), "y")]
    assert names == ["y['a']", "y['b'][0]", "y['b'][1][0]", "y['b'][1][1][0]"]


def test_all_tensors_hold_as_many_samples():
    """Two that differ are named, with their numbers."""
    assert trees.sample_count(counted(6)) == 6
    with pytest.raises(BadData, match=r"2 samples in y\['a'\] and 3 in y\['b'\]"):
        trees.sample_count({"a": torch.zeros(2), "b": torch.zeros(3)}, "y")


@pytest.mark.parametrize(
    ("tree", "what"),
    [
        (torch.tensor(1), "x is a single number"),
        ({}, "x holds no tensor"),
        ([torch.zeros(1), "label"], r"x\[1\] is no tensor but of type str"),
        (None, "x is no tensor but of type NoneType"),
    ],
)
def test_what_holds_no_samples_is_refused(tree, what):
    """In words, with a remedy."""
    with pytest.raises(BadData, match=what) as caught:
        trees.sample_count(tree)
    assert caught.value.remedy


class Difference(nn.Module):
    """a - b: exchanged arguments give another sign."""

    def forward(self, a, b):
        return a - b


@pytest.mark.parametrize(
    "x", [(torch.tensor([5.0]), torch.tensor([2.0])), {"b": torch.tensor([2.0]), "a": torch.tensor([5.0])}]
)
def test_a_network_is_called_with_a_tuple_in_order_and_a_dict_by_name(x):
    """A dict's order means nothing."""
    (output,) = trees.call(Difference(), x)
    assert output.tolist() == [3.0]


def test_outputs_are_always_a_tuple():
    """One tensor, or a tree of them."""

    class Nested(nn.Module):
        def forward(self, x):
            return {"low": x, "high": (x + 1, x + 2)}

    assert [float(y) for y in trees.call(Nested(), torch.tensor([1.0]))] == [1, 2, 3]
    assert len(trees.call(nn.Identity(), torch.tensor([1.0]))) == 1


@pytest.mark.parametrize("sizes", [[6], [1, 1, 1, 1, 1, 1], [5, 1], [2, 4], [3, 3]])
def test_portions_are_of_one_size_whatever_the_batches(sizes):
    """The same samples in the same order; only the last portion may be smaller."""
    batches, start = [], 0
    for size in sizes:
        batches.append(trees.index(counted(), slice(start, start + size)))
        start += size

    for size, wanted in ((4, [4, 2]), (3, [3, 3]), (6, [6]), (7, [6])):
        found = list(trees.portions(batches, size))
        assert [trees.sample_count(each) for each in found] == wanted
        assert plain(trees.cat(found)) == plain(counted())
    assert list(trees.portions([], 3)) == []
