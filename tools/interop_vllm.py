"""A plain product of 4-bit experts for vLLM's CPU build, whose own needs AMX: names, shapes, joining and routing stay vLLM's.

Used by interop_read.py on processors without AMX."""

import torch


def has_amx():
    return torch.cpu._is_amx_tile_supported()


def unpack(words, scales):
    """words int32 [experts, out, in / 8], scales [experts, out, groups] -> float32 [experts, out, in]"""
    codes = torch.stack([words >> shift & 15 for shift in range(0, 32, 4)], -1).flatten(2)
    weights = (codes - 8).float().unflatten(2, (scales.shape[2], -1))
    return (weights * scales.float()[..., None]).flatten(2)


def unpack_gptq(method, layer):
    def turned(name):
        return getattr(layer, name).data.transpose(1, 2)

    layer.plain = [unpack(turned(f"{part}_qweight"), turned(f"{part}_scales")) for part in ("w13", "w2")]


def unpack_compressed_tensors(method, layer):
    layer.plain = [unpack(getattr(layer, f"{part}_weight_packed").data, getattr(layer, f"{part}_weight_scale").data)
                   for part in ("w13", "w2")]


def apply(method, layer, x, topk_weights, topk_ids, shared_experts, shared_experts_input):
    """Of the chosen experts; shared ones are added by the caller."""
    output = torch.zeros(x.shape, dtype=torch.float32)
    for expert, (gate_up, down) in enumerate(zip(*layer.plain)):
        rows, ranks = (topk_ids == expert).nonzero(as_tuple=True)
        gate, up = (x[rows].float() @ gate_up.T).chunk(2, -1)
        result = torch.nn.functional.silu(gate) * up @ down.T
        output.index_add_(0, rows, result * topk_weights[rows, ranks, None].float())
    return output.to(x.dtype)


def stand_in():
    from vllm.model_executor.layers.fused_moe.experts.cpu_moe import CPUExpertsInt4
    from vllm.model_executor.layers.quantization.auto_gptq import AutoGPTQMoEMethod
    from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors_moe import compressed_tensors_moe_wna16

    CPUExpertsInt4._supports_current_device = staticmethod(lambda: True)
    CPUExpertsInt4._supports_quant_scheme = staticmethod(lambda weights, activations: True)
    CPUExpertsInt4._supports_routing_method = staticmethod(lambda *_: True)  # routes come to apply() as they are
    packed = compressed_tensors_moe_wna16.CompressedTensorsWNA16MoEMethod
    for method, unpacking in ((AutoGPTQMoEMethod, unpack_gptq), (packed, unpack_compressed_tensors)):
        method.process_weights_after_loading = unpacking
        method.apply = apply
