"""ExLlamaV2 without a GPU: its own Python code looks for tensors, makes the layers and runs them; of its CUDA extension this
has what is needed, by the rules of the extension's sources (version 0.3.2), on the CPU.

So what is shown is which names, shapes, types, bits and groups it takes and what it computes from them, not its kernels.
Used by interop_read.py."""

import sys
import types

import torch

MATRICES = {}  # handle: (weights [in, out], bias or None)
ONES = 0x11111111  # one for each code of a word


def is_none(tensor):
    return tensor.device.type == "meta"


def check(condition, message):
    if not condition:
        raise RuntimeError(message)


# --- layers (ext_qmatrix.cpp, cuda/q_matrix.cu) ------------------------------------------------------------------------


def unpack(words, dimension):
    """Codes of four bits, low ones first, along the dimension."""
    return torch.stack([words >> shift & 15 for shift in range(0, 32, 4)], dimension + 1).flatten(dimension, dimension + 1)


def group_length(height, groups):
    """The smallest power of two of which so many groups cover all inputs, whatever config.json says."""
    length = 1
    while length * groups < height:
        length *= 2
    return length


def dequantize(qweight, qzeros, scales, g_idx):
    """float16 [in, out]; the zero point is one more than what is stored. g_idx: inputs in the order of their groups."""
    height, width = qweight.shape[0] * 8, qweight.shape[1]
    order = torch.arange(height) if is_none(g_idx) else torch.argsort(g_idx, stable=True)
    group = torch.empty(height, dtype=torch.long)
    group[order] = torch.arange(height) // group_length(height, qzeros.shape[0])
    codes, zeros = unpack(qweight, 0), unpack(qzeros, 1)[:, :width] + 1
    return (codes - zeros[group]).half() * scales[group]


def make_q_matrix(q_weight, q_perm, q_invperm, q_scale, q_scale_max, q_groups, q_group_map, qzeros, scales, g_idx, bias,
                  temp_dq, max_dq_rows):
    check(q_weight.dtype == qzeros.dtype == torch.int32 and scales.dtype == torch.float16, "incorrect datatype")
    check(qzeros.shape[1] * 8 == q_weight.shape[1], "q_weight and gptq_qzeros have incompatible shapes")
    check(scales.shape[1] == q_weight.shape[1], "q_weight and gptq_scales have incompatible shapes")
    check(is_none(bias) or bias.dtype == torch.float16 and bias.shape[0] == q_weight.shape[1],
          "q_weight and bias have incompatible shapes or types")
    handle = len(MATRICES) + 1
    MATRICES[handle] = (dequantize(q_weight, qzeros, scales, g_idx), None if is_none(bias) else bias)
    return handle


def gemm_half_q_half(a, handle, c, force_cuda):
    weights, bias = MATRICES[handle]
    check(a.shape[1] == weights.shape[0] and c.shape[1] == weights.shape[1], "a, b and c have incompatible shapes")
    product = a.float() @ weights.float()
    c.copy_(product if bias is None else product + bias)


def reconstruct(handle, output):
    output.copy_(MATRICES[handle][0])


# --- what lies between them (ext_norm.cpp, ext_rope.cpp, ext_element.cpp) ----------------------------------------------


def rms_norm(x, w, y, epsilon):
    values = x.float()
    y.copy_(values * torch.rsqrt(values.pow(2).mean(-1, keepdim=True) + epsilon) * w.float())


def layer_norm(x, w, b, y, epsilon):
    values = torch.nn.functional.layer_norm(x.float(), x.shape[-1:], None, None, epsilon) * w.float()
    y.copy_(values if is_none(b) else values + b.float())


def head_norm(x, w, b, y, epsilon, is_rms):
    rms_norm(x, w, y, epsilon) if is_rms else layer_norm(x, w, b, y, epsilon)


def rope_(x, sin, cos, past_len, num_heads, head_dim, offsets, is_neox):
    """x [batch, positions, heads, head_dim], in place; sin, cos [1, 1, positions, turning]."""
    turning, length = sin.shape[-1], x.shape[1]
    pairs = (slice(0, turning // 2), slice(turning // 2, turning)) if is_neox else (slice(0, turning, 2), slice(1, turning, 2))
    c, s = (table[0, 0, past_len:past_len + length, None, pairs[0]].float() for table in (cos, sin))
    left, right = (x[..., pair].float() for pair in pairs)
    x[..., pairs[0]], x[..., pairs[1]] = left * c - right * s, right * c + left * s


def softcap_(x, cap):
    x.copy_(cap * torch.tanh(x.float() / cap))


def stloader_read(filename, offset, size, tensor):
    with open(filename, "rb") as file:
        file.seek(offset)
        data = bytearray(file.read(size))
    tensor.copy_(torch.frombuffer(data, dtype=tensor.dtype).reshape(tensor.shape))


def stand_in():
    """Before exllamav2 is imported."""
    extension = types.ModuleType("exllamav2_ext")
    for function in (make_q_matrix, gemm_half_q_half, reconstruct, rms_norm, layer_norm, head_norm, rope_, softcap_,
                     stloader_read):
        setattr(extension, function.__name__, function)
    for name in ("make_q_attn", "make_q_mlp", "make_q_moe_mlp", "free_q_matrix"):
        setattr(extension, name, lambda *_: 1)
    sys.modules["exllamav2_ext"] = extension
    torch.cuda.synchronize = lambda *_: None
    torch.cuda.Stream = lambda *_: None


def load(folder):
    import exllamav2
    from exllamav2 import attn, device, mlp, model, module

    for place in (device, module, model):
        place._torch_device = lambda index: "cpu"
    model.set_device_streams = lambda: None
    model.safe_move_tensor = lambda tensor, *_, **__: tensor
    attn.ExLlamaV2Attention.forward = attn.ExLlamaV2Attention.forward_torch
    mlp.ExLlamaV2MLP.forward = mlp.ExLlamaV2MLP.forward_torch
    MATRICES.clear()
    config = exllamav2.ExLlamaV2Config(folder)
    config.arch_compat_overrides()
    config.no_sdpa = True
    loaded = exllamav2.ExLlamaV2(config)
    loaded.load()
    check(MATRICES, "loaded without any quantized layer")
    return loaded


def log_probabilities(folder, ids):
    with torch.inference_mode():
        logits = load(folder).forward(torch.from_numpy(ids))
        return torch.log_softmax(logits[:, :-1].float(), -1).numpy()
