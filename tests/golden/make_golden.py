#!/usr/bin/env python3
"""make_golden.py [FOLDER [NAME...]]: tiny seeded models of every family with the logits transformers computes from them in
float32 (InternLM2, which it does not have: internlm2.py).

Writes FOLDER/NAME/ (default: beside this script) with config.json, model*.safetensors, tokenizer.json, tokens.i32
[samples, length] and logits.f32 [samples, length, vocab] (raw, little endian), and FOLDER/manifest.txt with one line
"name samples length vocab" per model; with names, only those and their lines. Needs torch, transformers and safetensors
(tools/requirements-interop.txt).

Weights and tokens come from numpy's PCG64, seeded by the model's name, so they are the same bytes everywhere. Logits
are the same bytes with one instruction set; between processors their last bits differ.

The weights are drawn wide, every bias is non-zero and every norm weight is away from one: a missing bias, a wrong
rotation or a swapped head moves the logits by much more than rounding does."""

import json
import os
import shutil
import sys
import tempfile
import zlib

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from transformers.integrations import mxfp4

import internlm2
from golden_models import MODELS

SAMPLES = 2
SPREAD = 0.15  # of the weights


# (model type, name in transformers 5): name in the published checkpoints
PUBLISHED = {("gpt_neox", "lm_head.weight"): "embed_out.weight"}


def tokenizer():
    """One token per printable ASCII character: enough to turn any English text into ids below every vocab_size here."""
    characters = ["<unk>", "<s>", "</s>", "\n"] + [chr(c) for c in range(32, 127)]
    special = [{"id": i, "content": characters[i], "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True} for i in range(3)]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
            "pre_tokenizer": None, "post_processor": None, "decoder": {"type": "Fuse"},
            "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                      "vocab": {c: i for i, c in enumerate(characters)}, "merges": []}}


def write_json(path, value):
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        json.dump(value, file, indent=1, ensure_ascii=True)
        file.write("\n")


def draw(name, shape, centre, generator):
    """float32 values of one parameter; the weights of norms around `centre`, everything else around zero."""
    values = generator.standard_normal(shape).astype(np.float32)
    if "norm" in name.split(".")[-2] and name.endswith("weight") or len(shape) == 1 and name.endswith("weight"):
        return centre + 0.1 * values
    return (SPREAD if len(shape) > 1 else 0.2) * values


def starve_an_expert(tensors):
    """Of five or more experts the fifth never gets a token: of a, -a, b, -b two are always above zero."""
    for key in [key for key in tensors if key.endswith("mlp.gate.weight") and len(tensors[key]) >= 5]:
        router = tensors[key]
        router[1], router[3], router[4] = -router[0], -router[2], 0
    for key in [key for key in tensors if key.endswith("e_score_correction_bias")]:
        tensors[key][5] = -9  # where a bias has the last word
    for key in [key for key in tensors if key.endswith("mlp.router.bias")]:
        tensors[key][4] = -99


def widen_gates(tensors):
    """So that GPT-OSS's clamp has work to do."""
    for key in [key for key in tensors if key.endswith("mlp.experts.gate_up_proj")]:
        tensors[key] = tensors[key] * 5


def split_experts(tensors, name):
    """One tensor for each expert in place of the fused ones, under the names of published checkpoints."""
    words = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
    place = "mlp"
    if name == "mixtral":
        words, place = {"gate": "w1", "up": "w3", "down": "w2"}, "block_sparse_moe"
        for key in [key for key in tensors if key.endswith("mlp.gate.weight")]:
            tensors[key.replace("mlp", place)] = tensors.pop(key)
    for key in [key for key in tensors if ".mlp.experts." in key]:
        fused = tensors.pop(key)
        prefix = key[:key.index("mlp.experts.")] + f"{place}.experts."
        for expert, weight in enumerate(fused):
            parts = zip(("gate", "up"), weight.chunk(2)) if key.endswith("gate_up_proj") else [("down", weight)]
            for part, values in parts:
                tensors[f"{prefix}{expert}.{words[part]}.weight"] = values.contiguous()


def is_internlm2(folder):
    return internlm2.read_config(folder)["model_type"] == "internlm2"


def next_token_shapes(config, shapes):
    """What belongs to the layer behind the last one of DeepSeek-V3 (multi-token prediction)."""
    n, width, vocabulary = config.num_hidden_layers, config.hidden_size, config.vocab_size
    if config.model_type != "deepseek_v3" or not config.num_nextn_predict_layers:
        return {}
    own = {"embed_tokens": (vocabulary, width), "enorm": (width,), "hnorm": (width,), "eh_proj": (width, 2 * width),
           "shared_head.norm": (width,), "shared_head.head": (vocabulary, width)}
    like = {name.replace(f".{n - 1}.", f".{n}."): shape for name, shape in shapes.items() if f".layers.{n - 1}." in name}
    return {f"model.layers.{n}.{name}.weight": shape for name, shape in own.items()} | like


def without_next_token(tensors, config):
    """Without that layer, of which transformers knows the name in one model only."""
    n = config.get("num_hidden_layers")
    return {name: tensor for name, tensor in tensors.items() if f".layers.{n}." not in name}


def parameter_shapes(folder):
    """Names and shapes from transformers' own class, so that this script cannot get a name wrong; PUBLISHED has those that
    it changes when it loads a checkpoint."""
    if is_internlm2(folder):
        return internlm2.shapes(folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    shapes |= {name: tuple(b.shape) for name, b in model.named_buffers() if name.endswith("e_score_correction_bias")}
    shapes |= next_token_shapes(config, shapes)
    if config.tie_word_embeddings:
        shapes.pop("lm_head.weight", None)
    return {PUBLISHED.get((config.model_type, name), name): shape for name, shape in shapes.items()}


def spread(scales, rows, columns, shape):
    """scales of blocks of rows x columns, one for each element of the shape"""
    return scales.repeat_interleave(rows, 0)[:shape[0]].repeat_interleave(columns, 1)[:, :shape[1]]


def quantize_fp8(tensors, settings):
    """Turns the matrices of the blocks into F8_E4M3 with scales; returns what they mean, as float32 tensors."""
    meaning = {key: value.float() for key, value in tensors.items()}
    block = settings.get("weight_block_size")
    matrices = [key for key in tensors if ".layers." in key and tensors[key].dim() == 2]
    for key in [key for key in matrices if not key.endswith(("mlp.gate.weight", "embed_tokens.weight", "head.weight"))]:
        weight = tensors[key].float()
        by_row = not block and "down_proj" in key
        rows, columns = block or ((1, weight.shape[1]) if by_row else weight.shape)
        parts = [[part.abs().max() for part in band.split(columns, 1)] for band in weight.split(rows, 0)]
        scales = torch.tensor(parts) / 448
        if not block:
            scales = scales.bfloat16().float()
        whole = spread(scales, rows, columns, weight.shape)
        tensors[key] = (weight / whole).clamp(-448, 448).to(torch.float8_e4m3fn)
        meaning[key] = tensors[key].float() * whole
        if block:
            tensors[key + "_scale_inv"] = scales
        else:
            tensors[key + "_scale"] = (scales if by_row else scales.reshape(1)).bfloat16()
            tensors[key.replace(".weight", ".input_scale")] = torch.tensor([0.5])
    return meaning


MXFP4_VALUES = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def quantize_mxfp4(tensors):
    """Turns fused experts [experts, inputs, outputs] into blocks and scales; returns what they mean, as float32 tensors."""
    meaning = {key: value.float() for key, value in tensors.items()}
    for key in [key for key in tensors if key.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        blocks = tensors.pop(key).float().transpose(1, 2).unflatten(2, (-1, 32))
        exponents = (blocks.abs().amax(-1) / 6).log2().ceil()
        distances = (blocks[..., None] / exponents.exp2()[..., None, None] - MXFP4_VALUES).abs()
        codes = distances.argmin(-1).to(torch.uint8)
        meaning[key] = (MXFP4_VALUES[codes.long()] * exponents.exp2()[..., None]).flatten(2).transpose(1, 2).contiguous()
        tensors[key + "_blocks"] = codes[..., 0::2] | codes[..., 1::2] << 4
        tensors[key + "_scales"] = (exponents + 127).to(torch.uint8)
        theirs = mxfp4.convert_moe_packed_tensors(tensors[key + "_blocks"], tensors[key + "_scales"])
        assert torch.equal(theirs.float(), meaning[key])
    return meaning


def write_weights(folder, name, dtype, n_files):
    """Returns what weights of 8 or 4 bits mean; None where there are none."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    shapes = parameter_shapes(folder)
    centre = 0.0 if name.startswith("gemma") else 1.0  # its norms add one
    tensors = {key: torch.from_numpy(draw(key, shapes[key], centre, generator)).to(
        torch.float32 if key.endswith("e_score_correction_bias") else getattr(torch, dtype)) for key in sorted(shapes)}
    starve_an_expert(tensors)
    is_gpt_oss = MODELS[name][0]["model_type"] == "gpt_oss"
    if is_gpt_oss:
        widen_gates(tensors)
    elif not name.endswith("_fused"):
        split_experts(tensors, name)
    settings = MODELS[name][0].get("quantization_config")
    meaning = None
    if settings:
        meaning = quantize_mxfp4(tensors) if is_gpt_oss else quantize_fp8(tensors, settings)
    if n_files == 1:
        save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
        return meaning
    names = [f"model-{i + 1:05d}-of-{n_files:05d}.safetensors" for i in range(n_files)]
    where = {key: names[i % n_files] for i, key in enumerate(sorted(tensors))}
    for file in names:
        part = {key: tensors[key] for key in tensors if where[key] == file}
        save_file(part, os.path.join(folder, file), metadata={"format": "pt"})
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    write_json(os.path.join(folder, "model.safetensors.index.json"),
               {"metadata": {"total_size": total}, "weight_map": where})
    return meaning


def run_plain(folder, meaning, tokens):
    """run_model() of the same model with other weights."""
    with tempfile.TemporaryDirectory() as plain:
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        del config["quantization_config"]
        write_json(os.path.join(plain, "config.json"), config)
        save_file(without_next_token(meaning, config), os.path.join(plain, "model.safetensors"), metadata={"format": "pt"})
        return run_model(plain, tokens)


def run_model(folder, tokens):
    if is_internlm2(folder):
        return internlm2.logits(folder, tokens)
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    wrong = {key: sorted(map(str, info[key])) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    if any(wrong.values()):
        sys.exit(f"{folder}: transformers did not load what was written: {wrong}")
    with torch.inference_mode():
        ids = torch.from_numpy(tokens.astype(np.int64))
        return model.eval()(input_ids=ids, use_cache=False).logits.numpy()


def make(root, name):
    config, length, dtype, n_files = MODELS[name]
    folder = os.path.join(root, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    write_json(os.path.join(folder, "config.json"),
               {**config, "dtype" if "rope_parameters" in config else "torch_dtype": dtype})
    write_json(os.path.join(folder, "tokenizer.json"), tokenizer())
    write_json(os.path.join(folder, "generation_config.json"),
               {"bos_token_id": config["bos_token_id"], "eos_token_id": config["eos_token_id"]})
    meaning = write_weights(folder, name, dtype, n_files)
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(b"tokens of " + name.encode())))
    tokens = generator.integers(3, config["vocab_size"], (SAMPLES, length), dtype=np.int32)
    logits = run_plain(folder, meaning, tokens) if meaning else run_model(folder, tokens)
    tokens.astype("<i4").tofile(os.path.join(folder, "tokens.i32"))
    logits.astype("<f4").tofile(os.path.join(folder, "logits.f32"))
    print(f"{name}: logits in [{logits.min():.2f}, {logits.max():.2f}]", file=sys.stderr)
    return f"{name} {SAMPLES} {length} {config['vocab_size']}"


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    manifest = os.path.join(root, "manifest.txt")
    lines = {}
    if sys.argv[2:] and os.path.exists(manifest):
        with open(manifest, encoding="utf-8") as file:
            lines = {line.split()[0]: line.strip() for line in file}
    for name in sys.argv[2:] or MODELS:
        lines[name] = make(root, name)
    with open(manifest, "w", encoding="utf-8") as file:
        file.writelines(lines[name] + "\n" for name in MODELS if name in lines)


if __name__ == "__main__":
    main()
