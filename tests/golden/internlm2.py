"""InternLM2 in plain PyTorch, float32: the reference of its golden logits, as transformers has no class for it.

After the published definition (internlm/internlm2-7b, modeling_internlm2.py): Llama's block under names of its own. Rows of
attention.wqkv are, for each key head in turn, the queries that share it, the key, and the value. `bias` is that of wqkv and
wo. rope_scaling "dynamic" changes the angles only of samples longer than max_position_embeddings; here are none."""

import json
import os

import torch
from safetensors.torch import load_file


def read_config(folder):
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        return json.load(file)


def shapes(folder):
    """Names and shapes of the tensors."""
    config = read_config(folder)
    hidden, ffn, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
    result = {"model.tok_embeddings.weight": (vocab, hidden), "model.norm.weight": (hidden,), "output.weight": (vocab, hidden)}
    for block in range(config["num_hidden_layers"]):
        fused = (heads + 2 * kv) * (hidden // heads)
        tensors = {"attention_norm.weight": (hidden,), "attention.wqkv.weight": (fused, hidden),
                   "attention.wqkv.bias": (fused,), "attention.wo.weight": (hidden, hidden),
                   "attention.wo.bias": (hidden,), "ffn_norm.weight": (hidden,), "feed_forward.w1.weight": (ffn, hidden),
                   "feed_forward.w3.weight": (ffn, hidden), "feed_forward.w2.weight": (hidden, ffn)}
        for name, shape in tensors.items():
            if config["bias"] or not name.endswith(".bias"):
                result[f"model.layers.{block}.{name}"] = shape
    return result


def norm(x, weight, epsilon):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon) * weight


def rotate(x, theta):
    """x [samples, heads, length, head_dim]: entries i and i + head_dim / 2 turn by position * theta^(-2 i / head_dim)."""
    length, head_dim = x.shape[2:]
    frequency = theta ** (-torch.arange(0, head_dim, 2).float() / head_dim)
    angle = torch.arange(length).float()[:, None] * frequency
    low, high = x.chunk(2, dim=-1)
    return torch.cat([low * angle.cos() - high * angle.sin(), high * angle.cos() + low * angle.sin()], dim=-1)


def attention(x, tensors, prefix, config):
    samples, length, hidden = x.shape
    heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim, shared = hidden // heads, heads // kv
    fused = x @ tensors[prefix + "wqkv.weight"].T + tensors.get(prefix + "wqkv.bias", 0)
    fused = fused.view(samples, length, kv, shared + 2, head_dim)
    query = fused[..., :shared, :].reshape(samples, length, heads, head_dim).transpose(1, 2)
    key, value = (fused[..., shared + i, :].repeat_interleave(shared, dim=2).transpose(1, 2) for i in range(2))
    query, key = (rotate(part, config["rope_theta"]) for part in (query, key))
    scores = query @ key.transpose(2, 3) / head_dim**0.5
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    seen = scores.masked_fill(future, float("-inf")).softmax(-1) @ value
    seen = seen.transpose(1, 2).reshape(samples, length, hidden)
    return seen @ tensors[prefix + "wo.weight"].T + tensors.get(prefix + "wo.bias", 0)


def feed_forward(x, tensors, prefix):
    gate, up, down = (tensors[f"{prefix}{name}.weight"].T for name in ("w1", "w3", "w2"))
    return (torch.nn.functional.silu(x @ gate) * (x @ up)) @ down


def logits(folder, tokens):
    """tokens int [samples, length] -> float32 [samples, length, vocab], of the folder's model.safetensors."""
    config = read_config(folder)
    tensors = {name: t.float() for name, t in load_file(os.path.join(folder, "model.safetensors")).items()}
    epsilon = config["rms_norm_eps"]
    with torch.inference_mode():
        x = tensors["model.tok_embeddings.weight"][torch.from_numpy(tokens).long()]
        for block in range(config["num_hidden_layers"]):
            prefix = f"model.layers.{block}."
            x = x + attention(norm(x, tensors[prefix + "attention_norm.weight"], epsilon), tensors,
                              prefix + "attention.", config)
            x = x + feed_forward(norm(x, tensors[prefix + "ffn_norm.weight"], epsilon), tensors, prefix + "feed_forward.")
        return (norm(x, tensors["model.norm.weight"], epsilon) @ tensors["output.weight"].T).numpy()
