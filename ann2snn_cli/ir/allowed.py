"""The torch operators that an `Opaque` may name: those on this list, and no other.

A `.pth` comes from anywhere, and what it names is run. Torch's own facts do not tell what is safe: its schema
calls `aten.from_file` pure, yet it creates a file. So the list is made of names, each one chosen for this: it
computes tensors from its arguments, and touches nothing else. Torch's facts are a second fence behind it:
an overload that writes into its arguments, draws random numbers, gives something else than tensors, or takes
a generator, a stream or a storage is refused even if its name is on the list.

What the list does not stop: an operator on it may still ask for much memory or time, as any network may.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ann2snn_cli.errors import Setting, UnsupportedNetwork

_ELEMENT_BY_ELEMENT = """
    __and__ __or__ __xor__
    abs acos acosh add addcdiv addcmul asin asinh atan atan2 atanh bitwise_and bitwise_not bitwise_or
    bitwise_xor ceil celu clamp clamp_max clamp_min clip copysign cos cosh deg2rad digamma div elu eq erf
    erfc erfinv exp exp2 expm1 float_power floor floor_divide fmax fmin fmod frac ge gelu glu gt
    hardshrink hardsigmoid hardswish hardtanh heaviside hypot isclose isfinite isinf isnan ldexp le
    leaky_relu lerp lgamma log log10 log1p log2 log_sigmoid log_sigmoid_forward logaddexp logaddexp2
    logical_and logical_not logical_or logical_xor logit lt masked_fill maximum minimum mish mul multiply
    nan_to_num ne neg negative positive pow prelu _prelu_kernel rad2deg reciprocal relu relu6 remainder
    round rrelu rsqrt rsub selu sgn sigmoid sign signbit silu sin sinc sinh softplus softshrink
    special_entr special_erfcx special_expit special_i0 special_ndtr special_xlog1py sqrt square sub tan
    tanh threshold true_divide trunc where xlogy
"""
_OVER_AXES = """
    all amax amin aminmax any argmax argmin cummax cummin cumprod cumsum logcumsumexp logsumexp
    log_softmax _log_softmax max mean median min norm linalg_norm linalg_vector_norm nansum prod softmax
    _softmax _safe_softmax special_log_softmax special_softmax std std_mean sum topk sort argsort kthvalue
    var var_mean count_nonzero
"""
_PRODUCTS = """
    addbmm addmm addmv addr baddbmm bilinear bmm cdist _cdist_forward conv1d conv2d conv3d convolution
    _convolution conv_transpose1d conv_transpose2d conv_transpose3d cosine_similarity cross linalg_cross
    dot einsum embedding inner kron linalg_householder_product linalg_matmul linalg_vecdot linear matmul
    matrix_exp mm mv outer
    pairwise_distance tensordot _trilinear scaled_dot_product_attention vdot
"""
_NORMS = """
    batch_norm group_norm instance_norm layer_norm rms_norm _fused_rms_norm native_group_norm
    native_layer_norm _native_batch_norm_legit _native_batch_norm_legit_no_training renorm _weight_norm
"""
_RECURRENT = "gru gru_cell lstm lstm_cell rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell"
_POOLS_AND_RESIZING = """
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d
    adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d affine_grid_generator avg_pool1d
    avg_pool2d avg_pool3d grid_sampler grid_sampler_2d grid_sampler_3d max_pool1d max_pool1d_with_indices
    max_pool2d max_pool2d_with_indices max_pool3d max_pool3d_with_indices upsample_bicubic2d
    _upsample_bicubic2d_aa upsample_bilinear2d _upsample_bilinear2d_aa upsample_linear1d
    upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d
    _upsample_nearest_exact2d _upsample_nearest_exact3d upsample_trilinear3d
"""
_FOURIER = """
    fft_fft fft_fft2 fft_fftn fft_fftshift fft_ifft fft_ifft2 fft_ifftn fft_ifftshift fft_irfft fft_irfft2
    fft_irfftn fft_rfft fft_rfft2 fft_rfftn _fft_c2c _fft_c2r _fft_r2c complex conj imag polar real
    view_as_complex view_as_real
"""
_MOVES = """
    alias atleast_1d atleast_2d atleast_3d block_diag broadcast_tensors broadcast_to bucketize cat
    channel_shuffle native_channel_shuffle chunk clone col2im column_stack concat concatenate
    constant_pad_nd contiguous detach diag diag_embed diagonal diagonal_scatter expand expand_as fill
    flatten flip fliplr flipud gather hstack im2col index index_add index_copy index_fill index_put
    index_select lift_fresh_copy masked_scatter meshgrid moveaxis movedim narrow one_hot pad _pad_circular
    _pad_enum permute pixel_shuffle pixel_unshuffle ravel reflection_pad1d reflection_pad2d
    reflection_pad3d repeat repeat_interleave replication_pad1d replication_pad2d replication_pad3d
    reshape reshape_as roll rot90 scatter scatter_add scatter_reduce searchsorted select select_scatter
    slice slice_scatter split split_with_sizes squeeze stack swapaxes swapdims t take_along_dim
    tensor_split tile to _to_copy transpose tril triu type_as unbind unflatten unfold unsafe_chunk
    unsafe_split unsafe_split_with_sizes _unsafe_view unsqueeze view view_as vstack
"""
_CONSTANTS = """
    arange eye full full_like linspace new_full new_ones new_zeros ones ones_like scalar_tensor
    tril_indices triu_indices zero zeros zeros_like
"""

NAMES: frozenset[str] = frozenset(
    " ".join(
        (
            _ELEMENT_BY_ELEMENT, _OVER_AXES, _PRODUCTS, _NORMS, _RECURRENT, _POOLS_AND_RESIZING, _FOURIER,
            _MOVES, _CONSTANTS,
        )
    ).split()
)  # fmt: skip

# Operators that depend on an argument: what it must be for a second run to give the same as the first.
SETTLED: dict[str, tuple[str, Callable[[Mapping[str, Any]], bool]]] = {
    "scaled_dot_product_attention": ("dropout_p must be 0", lambda given: given["dropout_p"] == 0),
    "rrelu": ("training must be False", lambda given: not given["training"]),
    **dict.fromkeys(
        ("gru", "lstm", "rnn_relu", "rnn_tanh"),
        ("train must be False, or dropout 0", lambda given: not given["train"] or given["dropout"] == 0),
    ),
    # These two write running statistics, and torch's schema does not say so.
    "batch_norm": (
        "it must not train its statistics",
        lambda given: not given["training"] or given["running_mean"] is given["running_var"] is None,
    ),
    "instance_norm": (
        "it must not train its statistics",
        lambda given: not given["use_input_stats"] or given["running_mean"] is given["running_var"] is None,
    ),
}

_TARGET = re.compile(r"aten\.([a-z_][a-z0-9_]*)\.([A-Za-z][A-Za-z0-9_]*)")
# Arguments that stay at their default: where a result is put, how it is stored, what random numbers it draws.
_LEFT_ALONE = ("device", "layout", "pin_memory", "generator")
_REFUSED_TYPES = ("Generator", "Stream", "Storage", "Device", "__torch__")
_REMEDY = f"write it with other operators, or give a rule for it in a file of your own: {Setting('rules')}"
_RANDOM = "it draws random numbers, so that a second run differs from the first"
_RANDOM_REMEDY = (
    "draw nothing in eval mode (F.dropout takes training=self.training, nn.Dropout does so itself), or give "
    f"a rule for it in a file of your own: {Setting('rules')}"
)


def operator(target: str) -> Callable[..., Any]:
    """Look up the operator called `target` ("aten.gelu.default"); UnsupportedNetwork if it is not allowed."""
    if why := refusal(target):
        remedy = _RANDOM_REMEDY if why == _RANDOM else _REMEDY
        raise UnsupportedNetwork(f"{target} is not run: {why}", remedy=remedy)
    return _overload(target)


def check(target: str, args: Iterable[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise UnsupportedNetwork unless the operator is allowed, and with these arguments."""
    operator(target)
    if why := _refusal_of_arguments(target, tuple(args), kwargs):
        raise UnsupportedNetwork(f"{target} is not run: {why}", remedy=_REMEDY)


@cache
def refusal(target: str) -> str:
    """Say why an operator may not be run, whatever its arguments; "" if it may."""
    parts = _TARGET.fullmatch(target)
    if parts is None:
        return "it is no operator of torch's own (aten.NAME.OVERLOAD)"
    name, overload = parts.groups()
    packet = getattr(torch.ops.aten, name, None) if _is_registered(name) else None
    if packet is None or overload not in packet.overloads():
        return "torch has no such operator"
    found = getattr(packet, overload)
    random = torch.Tag.nondeterministic_seeded in found.tags and name not in SETTLED
    if random:
        return _RANDOM
    if found._schema.is_mutable:
        return "it writes into its arguments"
    if name not in NAMES or not _is_plain(found._schema):
        return "it is not on the list of operators that compute and do nothing else"
    return ""


def refusal_of_tensor(tensor: Tensor) -> str:
    """Say why a tensor from a file is not taken; "" for a dense one that holds its values."""
    if not _is_dense(tensor):
        return "it is sparse, nested or quantized"
    if tensor.is_meta:
        return "it holds no values"
    return ""


def _overload(target: str) -> Callable[..., Any]:
    _, name, overload = target.split(".")
    found: Callable[..., Any] = getattr(getattr(torch.ops.aten, name), overload)
    return found


def _is_registered(name: str) -> bool:
    """Does torch's table of schemas hold this name? (An attribute of `torch.ops.aten` may be anything.)"""
    return bool(torch._C._jit_get_schemas_for_operator(f"aten::{name}"))


def _is_plain(schema: Any) -> bool:
    """Does it give tensors, and take nothing that lives outside of it? (`_LEFT_ALONE` is checked later.)"""
    gives_tensors = all(str(each.type) in ("Tensor", "List[Tensor]") for each in schema.returns)
    takes = [str(each.type) for each in schema.arguments if each.name not in _LEFT_ALONE]
    return (
        bool(schema.returns)
        and gives_tensors
        and not any(word in kind for kind in takes for word in _REFUSED_TYPES)
    )


def _refusal_of_arguments(target: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    expected = _overload(target)._schema.arguments  # type: ignore[attr-defined]
    names = [each.name for each in expected]
    given: dict[str, Any] = dict.fromkeys(names)
    given |= {each.name: each.default_value for each in expected if each.has_default_value()}
    given |= dict(zip(names, args, strict=False)) | dict(kwargs)
    if len(args) > len(names) or len(given) > len(names):
        return "its arguments are not those of the operator"
    if chosen := [name for name in _LEFT_ALONE if given.get(name) not in (None, False)]:
        return f"it chooses its own {chosen[0]}"
    if not all(map(_is_dense, _tensors(given))):
        return "a tensor in its arguments is sparse, nested or quantized"
    words, holds = SETTLED.get(target.split(".")[1], ("", lambda given: True))
    return "" if holds(given) else f"{words}, so that a second run gives the same"


def _is_dense(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_nested and not tensor.is_quantized


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [leaf for item in items for leaf in _tensors(item)]
