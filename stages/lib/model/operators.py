"""The operators of torch that an exported file may call unless somebody vouches for it.

These map tensors and numbers, check their arguments, and touch nothing else. Of the others some write files (`save`),
read them (`from_file`) or take a tensor's bytes for an address (`fbgemm_...`).
"""

import re

_ELEMENTWISE = """
    abs acos acosh add addcdiv addcmul asin asinh atan atan2 atanh bitwise_and bitwise_not bitwise_or bitwise_xor ceil
    celu clamp clamp_max clamp_min clip copysign cos cosh div divide elu eq erf erfc exp exp2 expm1 fill float_power
    floor floor_divide floordiv fmod ge gelu glu greater gt hardshrink hardsigmoid hardswish hardtanh isfinite isinf
    isnan le leaky_relu lerp less log log10 log1p log2 log_sigmoid logaddexp logical_and logical_not logical_or
    logical_xor logit lt masked_fill maximum minimum mish mul multiply nan_to_num ne neg negative pow prelu reciprocal
    relu relu6 remainder round rrelu rsqrt rsub selu sigmoid sign silu sin sinh softplus softshrink sqrt square sub
    subtract tan tanh threshold true_divide trunc where xlogy zero"""
_REDUCTIONS = """
    all amax amin aminmax any argmax argmin argsort cdist cosine_similarity count_nonzero cumprod cumsum kthvalue
    linalg_matrix_norm linalg_norm linalg_vector_norm logcumsumexp logsumexp max mean median min nanmean nansum norm
    prod quantile sort std std_mean sum topk var var_mean"""
_LAYERS = """
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
    adaptive_max_pool3d affine_grid_generator alpha_dropout avg_pool1d avg_pool2d avg_pool3d batch_norm bilinear
    channel_shuffle col2im constant_pad_nd conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
    convolution dropout embedding feature_dropout grid_sampler grid_sampler_2d grid_sampler_3d group_norm gru im2col
    instance_norm layer_norm linear log_softmax lstm max_pool1d max_pool2d max_pool2d_with_indices max_pool3d
    max_pool3d_with_indices pad pixel_shuffle
    pixel_unshuffle reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d
    replication_pad3d rms_norm scaled_dot_product_attention softmax upsample_bicubic2d upsample_bilinear2d
    upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d"""
_PRODUCTS = "addbmm addmm addmv baddbmm bmm dot einsum inner matmul mm mv outer tensordot"
_SHAPES = """
    alias append arange broadcast_tensors broadcast_to cat chunk clone concat contiguous copy detach diag diagonal diff
    dim dstack expand expand_as extend flatten flip full full_like gather hstack index index_add index_copy index_fill
    index_put index_select is_nonzero item len lift_fresh lift_fresh_copy linspace list masked_scatter masked_select
    meshgrid moveaxis movedim narrow new_full new_ones new_zeros nonzero numel one_hot ones ones_like permute ravel
    repeat repeat_interleave reshape reshape_as roll rot90 scalar_tensor scatter scatter_add scatter_reduce select
    select_scatter size slice slice_scatter split split_with_sizes squeeze stack stride swapaxes swapdims
    sym_constrain_range sym_constrain_range_for_size sym_numel sym_size sym_stride t take take_along_dim tensor
    tensor_split tile to transpose tril triu type_as unbind unflatten unfold unsqueeze view view_as vstack zeros
    zeros_like"""
_INTERNAL = """
    _adaptive_avg_pool2d _adaptive_avg_pool3d _assert_scalar _assert_tensor_metadata _convolution _convolution_mode
    _log_softmax _set_item _softmax _to_copy
    _unsafe_view _unwrap_optional _weight_norm"""
_PYTHON = "__and__ __contains__ __getitem__ __iand__ __ior__ __is__ __isnot__ __ixor__ __not__ __or__ __xor__"
UNCHECKED = frozenset(
    """
    native_batch_norm native_dropout native_group_norm native_layer_norm _native_batch_norm_legit
    _native_batch_norm_legit_no_training _upsample_bicubic2d_aa _upsample_bilinear2d_aa""".split()
)
"""What torch.export makes of layers: they trust the sizes that they are given, and some reach beyond a tensor's memory.

Only a .pt2 may call them, which somebody has to vouch for.
"""
HARMLESS = frozenset(f"{_ELEMENTWISE} {_REDUCTIONS} {_LAYERS} {_PRODUCTS} {_SHAPES} {_INTERNAL} {_PYTHON}".split())


def harmless(name: str) -> bool:
    """Whether any file may call an operator of the namespace aten.

    Args:
        name: Without namespace and overload; with a `_` at its end where it works in place.
    """
    return name in HARMLESS or name.removesuffix("_") in HARMLESS or bool(re.fullmatch(r"fft_i?r?h?fft[2n]?", name))
