"""Models of other shapes than the demo's, with seeded random weights, and token files for them: what a plan is compared on.

Layers of random weights cost as much as trained ones, but for the rounds of refinement, of which there may be more or fewer."""

import json
import os
import struct

import h5py
import numpy

LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 1024,
         "intermediate_size": 2816, "num_attention_heads": 16, "num_key_value_heads": 8, "num_hidden_layers": 8,
         "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True,
         "vocab_size": 8192, "torch_dtype": "bfloat16"}
OPT = {"architectures": ["OPTForCausalLM"], "model_type": "opt", "activation_function": "relu", "do_layer_norm_before": True,
       "hidden_size": 768, "ffn_dim": 3072, "num_attention_heads": 12, "num_hidden_layers": 10, "word_embed_proj_dim": 768,
       "max_position_embeddings": 2048, "tie_word_embeddings": True, "vocab_size": 8192, "torch_dtype": "bfloat16"}
MOE = {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_act": "silu", "hidden_size": 768,
       "intermediate_size": 2048, "moe_intermediate_size": 512, "num_experts": 16, "num_experts_per_tok": 4, "norm_topk_prob": True,
       "decoder_sparse_step": 1, "mlp_only_layers": [], "num_attention_heads": 12, "num_key_value_heads": 4, "head_dim": 64,
       "num_hidden_layers": 4, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
       "tie_word_embeddings": True, "vocab_size": 8192, "torch_dtype": "bfloat16"}


def llama_tensors(config):
    hidden, ffn = config["hidden_size"], config["intermediate_size"]
    kv = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    for block in range(config["num_hidden_layers"]):
        name = f"model.layers.{block}."
        yield name + "input_layernorm.weight", (hidden,)
        yield name + "post_attention_layernorm.weight", (hidden,)
        for part, rows in (("q", hidden), ("k", kv), ("v", kv), ("o", hidden)):
            yield f"{name}self_attn.{part}_proj.weight", (rows, hidden)
        for part, shape in (("gate", (ffn, hidden)), ("up", (ffn, hidden)), ("down", (hidden, ffn))):
            yield f"{name}mlp.{part}_proj.weight", shape
    yield "model.norm.weight", (hidden,)


def moe_tensors(config):
    hidden, ffn, head = config["hidden_size"], config["moe_intermediate_size"], config["head_dim"]
    queries, kv = head * config["num_attention_heads"], head * config["num_key_value_heads"]
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    for block in range(config["num_hidden_layers"]):
        name = f"model.layers.{block}."
        yield name + "input_layernorm.weight", (hidden,)
        yield name + "post_attention_layernorm.weight", (hidden,)
        for part, shape in (("q", (queries, hidden)), ("k", (kv, hidden)), ("v", (kv, hidden)), ("o", (hidden, queries))):
            yield f"{name}self_attn.{part}_proj.weight", shape
        yield name + "self_attn.q_norm.weight", (head,)
        yield name + "self_attn.k_norm.weight", (head,)
        yield name + "mlp.gate.weight", (config["num_experts"], hidden)
        for expert in range(config["num_experts"]):
            for part, shape in (("gate", (ffn, hidden)), ("up", (ffn, hidden)), ("down", (hidden, ffn))):
                yield f"{name}mlp.experts.{expert}.{part}_proj.weight", shape
    yield "model.norm.weight", (hidden,)


def opt_tensors(config):
    hidden, ffn, top = config["hidden_size"], config["ffn_dim"], "model.decoder."
    yield top + "embed_tokens.weight", (config["vocab_size"], hidden)
    yield top + "embed_positions.weight", (config["max_position_embeddings"] + 2, hidden)
    linears = {f"self_attn.{part}_proj": (hidden, hidden) for part in ("q", "k", "v", "out")}
    linears |= {"fc1": (ffn, hidden), "fc2": (hidden, ffn)}
    for block in range(config["num_hidden_layers"]):
        for linear, shape in linears.items():
            yield f"{top}layers.{block}.{linear}.weight", shape
            yield f"{top}layers.{block}.{linear}.bias", shape[:1]
        for norm in ("self_attn_layer_norm", "final_layer_norm"):
            yield f"{top}layers.{block}.{norm}.weight", (hidden,)
            yield f"{top}layers.{block}.{norm}.bias", (hidden,)
    yield top + "final_layer_norm.weight", (hidden,)
    yield top + "final_layer_norm.bias", (hidden,)


def values_of(random, name, shape):
    """bf16 bit patterns: ones for the weights of norms, zeros for biases, else what keeps the size of activations."""
    if "norm" in name and name.endswith("weight"):
        values = numpy.ones(shape, numpy.float32)
    elif name.endswith("bias"):
        values = numpy.zeros(shape, numpy.float32)
    else:
        values = random.standard_normal(shape, dtype=numpy.float32) / numpy.sqrt(shape[-1], dtype=numpy.float32)
    return (values.view(numpy.uint32) >> 16).astype(numpy.uint16)


def write_model(folder, config, tensors, seed):
    os.makedirs(folder)
    random = numpy.random.default_rng(seed)
    header, offset, shapes = {}, 0, list(tensors(config))
    for name, shape in shapes:
        size = 2 * int(numpy.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes:
            file.write(values_of(random, name, shape).tobytes())
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file, indent=1)


def write_tokens(path, vocabulary, samples, length, seed):
    random = numpy.random.default_rng(seed)
    with h5py.File(path, "w") as file:
        file["tokens"] = random.integers(vocabulary, size=(samples, length), dtype=numpy.int32)


def make(folder):
    """(name, model folder) of each."""
    made = [("llama-1024", LLAMA, llama_tensors), ("opt-768", OPT, opt_tensors), ("moe-768", MOE, moe_tensors)]
    for seed, (name, config, tensors) in enumerate(made):
        write_model(os.path.join(folder, name), config, tensors, seed)
    return [(name, os.path.join(folder, name)) for name, _, _ in made]
