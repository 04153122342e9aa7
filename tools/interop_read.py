#!/usr/bin/env -S python3 -P
"""interop_read.py READER JOBS.json: what one program computes from each of some checkpoints.

READER: plain (transformers in float32, without quantization), transformers, gptqmodel, vllm or exllamav2; run by interop.py with the
Python that has it. JOBS.json: [{"folder": ..., "ids": [[...], ...], "out": X.npy}, ...]. ids: [samples, length]; out: the
log-probabilities after each token but the last, [samples, length - 1, vocab]. Prints one JSON line for each: folder,
"trouble", the program's own words where it refuses, and "how", what had to be asked for."""

import json
import os
import sys

READER, JOBS = sys.argv[1:3]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # gptqmodel would compile its kernels for minutes
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["OMP_NUM_THREADS"] = "1"  # models are small, and readers run side by side
if READER == "vllm":
    os.environ.update(VLLM_TARGET_DEVICE="cpu", VLLM_CPU_KVCACHE_SPACE="1", VLLM_NO_USAGE_STATS="1",
                      VLLM_ENABLE_V1_MULTIPROCESSING="0")  # refusals come as exceptions

import numpy  # noqa: E402  (after the environment)

sys.path.append(os.path.dirname(os.path.abspath(__file__)))  # last: tokenize.py there is not Python's
HOW = []  # what the checkpoint in work was read with, where that is not what readers do by themselves


def settings_of(folder):
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        return json.load(file).get("quantization_config") or {}


def torch_log_probabilities(model, ids):
    import torch

    with torch.inference_mode():
        logits = model.eval()(input_ids=torch.from_numpy(ids), use_cache=False).logits
        return torch.log_softmax(logits[:, :-1].float(), -1).numpy()


def check_all_loaded(info):
    missing = sorted(map(str, info["missing_keys"])) + sorted(map(str, info["mismatched_keys"]))
    if missing:
        raise RuntimeError(f"left at random values: {', '.join(missing[:3])}")


def check_loaded(model, info, is_plain=False):
    check_all_loaded(info)
    plain = ("Linear", "NonDynamicallyQuantizableLinear")
    kinds = {type(module).__name__ for module in model.modules()}
    packed = is_plain or any(hasattr(module, "weight_packed") for module in model.modules())
    if not packed and not any("Linear" in kind and kind not in plain for kind in kinds):
        raise RuntimeError("loaded without any quantized layer")


def read_plain(folder, ids):
    """Of a family that transformers does not have the tests' own reference."""
    import torch
    import transformers

    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "golden"))
    import internlm2
    import fuse_experts

    if internlm2.read_config(folder)["model_type"] == "internlm2":
        return torch.log_softmax(torch.from_numpy(internlm2.logits(folder, ids)[:, :-1]), -1).numpy()
    if fuse_experts.is_needed(folder):
        fuse_experts.convert(folder, folder + "-fused")
        folder += "-fused"
    model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    check_all_loaded(info)
    return torch_log_probabilities(model, ids)


def fits_fast_kernel(folder, settings):
    """transformers' 4-bit CPU kernels take groups of 32, 64, 128 and 256 and multiples of 32 outputs."""
    from safetensors import safe_open

    if settings["bits"] != 4 or settings["group_size"] not in (32, 64, 128, 256):
        return False
    for name in os.listdir(folder):
        if name.endswith(".safetensors"):
            with safe_open(os.path.join(folder, name), "numpy") as file:
                shapes = [file.get_slice(key).get_shape() for key in file.keys() if key.endswith(".qweight")]
                if any(shape[1] % 32 for shape in shapes):
                    return False
    return True


def load_transformers_with(folder, settings):
    """With a kernel that takes every shape where the fast one does not."""
    import transformers

    extra = {}
    if settings["quant_method"] == "gptq" and not fits_fast_kernel(folder, settings):
        extra["quantization_config"] = transformers.GPTQConfig(bits=settings["bits"], backend="gptq_torch")
    model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, device_map="cpu", output_loading_info=True, **extra)
    check_loaded(model, info)
    return model


def load_transformers(folder):
    """Where it does not load compressed-tensors as it is it may load it as plain weights: HOW says so."""
    import transformers

    settings = settings_of(folder)
    try:
        return load_transformers_with(folder, settings)
    except Exception:
        if settings["quant_method"] != "compressed-tensors":
            raise
        first = sys.exc_info()[1]
    try:
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            folder, device_map="cpu", output_loading_info=True,
            quantization_config=transformers.CompressedTensorsConfig(dequantize=True))
        check_loaded(model, info, True)
    except Exception:
        raise first from None
    HOW.append("with CompressedTensorsConfig(dequantize=True) only")
    return model


def load_gptqmodel(folder):
    from gptqmodel import BACKEND, GPTQModel

    model = GPTQModel.load(folder, backend=BACKEND.GPTQ_TORCH, device="cpu").model
    check_loaded(model, {"missing_keys": (), "mismatched_keys": ()})
    return model


def has_experts(folder):
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        return "num_experts_per_tok" in json.load(file)


def read_vllm(folder, ids):
    import interop_vllm
    import vllm

    if has_experts(folder) and not interop_vllm.has_amx():
        interop_vllm.stand_in()
        HOW.append("with a product of our own for the experts, as that of its CPU build needs AMX")
    length = ids.shape[1]
    model = vllm.LLM(folder, enforce_eager=True, skip_tokenizer_init=True, disable_log_stats=True, max_logprobs=-1,
                     max_model_len=length + 8, max_num_seqs=4, max_num_batched_tokens=512, trust_remote_code=True)
    wanted = vllm.SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=-1, detokenize=False)
    results = model.generate([{"prompt_token_ids": row.tolist()} for row in ids], wanted, use_tqdm=False)
    vocab = 1 + max(results[0].prompt_logprobs[1])
    return numpy.array([[[position[token].logprob for token in range(vocab)] for position in result.prompt_logprobs[1:]]
                        for result in results], dtype=numpy.float32)


def read_exllamav2(folder, ids):
    import interop_exllama

    interop_exllama.stand_in()
    return interop_exllama.log_probabilities(folder, ids)


def read(folder, ids):
    if READER in ("plain", "vllm", "exllamav2"):
        return {"plain": read_plain, "vllm": read_vllm, "exllamav2": read_exllamav2}[READER](folder, ids)
    load = {"transformers": load_transformers, "gptqmodel": load_gptqmodel}[READER]
    return torch_log_probabilities(load(folder), ids)


def run(job):
    trouble = None
    HOW.clear()
    try:
        numpy.save(job["out"], read(job["folder"], numpy.array(job["ids"])))
    except Exception as error:  # a reader's refusal, in its own words
        trouble = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return json.dumps({"folder": job["folder"], "trouble": trouble, "how": "; ".join(HOW)})


def run_apart(job):
    """In a process of its own: vLLM makes one engine a process, and ends it with its process."""
    ours, theirs = os.pipe()
    if (child := os.fork()) == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.write(theirs, run(job).encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    return text or json.dumps({"folder": job["folder"], "trouble": f"the process ended with status {status}", "how": ""})


def main():
    with open(JOBS, encoding="utf-8") as file:
        jobs = json.load(file)
    if READER == "vllm":
        import vllm.model_executor.models.registry as registry

        registry._run_in_subprocess = lambda function: function()  # it would start a fresh interpreter for each model class
    for job in jobs:
        print("\n" + (run_apart if READER == "vllm" else run)(job), flush=True)


if __name__ == "__main__":
    main()
