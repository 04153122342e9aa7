"""oracle_errors.py MODEL TOKENS.npy BITS GROUP_SIZE OUT.json: the error of every linear layer that GPTQ in double precision makes.

GPTQ as in its paper (Frantar et al., 2022, algorithm 1): the explicit inverse of the damped Hessian and its upper Cholesky
factor, column by column, the reference grid, columns in order of activation with the groups' scales fixed beforehand. Inputs are
those of the unquantized model, computed by transformers in f32; everything after them is double. Written for comparison, by
another library and other formulas than shardq's own."""

import json
import sys

import numpy
import torch
import transformers

DAMPING = 0.01
BLOCK = 64  # columns after which the rest of the weights is brought up to date


def layer_inputs(model, samples):
    """{name: 2/T X'X}: of each linear layer of a block; layers with the same input have the same tensor."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and ".layers." in name}
    sums, last = {}, {"input": None, "square": None}

    def see(name):
        def hook(_, inputs):
            if inputs[0] is not last["input"]:
                x = inputs[0].reshape(-1, inputs[0].shape[-1]).double()
                last.update(input=inputs[0], square=x.T @ x)
            sums[name] = sums[name] + last["square"] if name in sums else last["square"]
        return hook

    for name, module in layers.items():
        module.register_forward_pre_hook(see(name))
    with torch.no_grad():
        for sample in samples:
            model.model(sample[None])
    return layers, {name: square * (2 / samples.numel()) for name, square in sums.items()}


def scales_of(weights, bits, group_size):
    """Of the reference grid, symmetric, stored as f16: [rows, columns], that of its group for each column."""
    groups = weights.reshape(weights.shape[0], -1, group_size)
    scales = (2 * groups.abs().amax(2) / (2 ** bits - 1)).to(torch.float16).double()
    return scales.repeat_interleave(group_size, 1)


def quantize(weights, hessian, bits, group_size):
    """Q, in the order of the weights' columns."""
    diagonal = hessian.diagonal()
    order = torch.argsort(diagonal, descending=True, stable=True)
    damped = hessian[order][:, order] + DAMPING * diagonal.mean() * torch.eye(len(order), dtype=torch.float64)
    upper = torch.linalg.cholesky(torch.linalg.inv(damped)).T
    work, scales = weights[:, order].clone(), scales_of(weights, bits, group_size)[:, order]
    rounded, half = torch.empty_like(work), 2 ** (bits - 1)
    for first in range(0, len(order), BLOCK):
        end = min(first + BLOCK, len(order))
        errors = torch.empty(len(work), end - first, dtype=torch.float64)
        for j in range(first, end):
            codes = torch.clamp(torch.round(work[:, j] / scales[:, j]) + half, 0, 2 * half - 1)
            rounded[:, j] = (codes - half) * scales[:, j]
            errors[:, j - first] = (work[:, j] - rounded[:, j]) / upper[j, j]
            work[:, j + 1:end] -= errors[:, j - first, None] * upper[j, j + 1:end]
        work[:, end:] -= errors @ upper[first:end, end:]
    return rounded[:, torch.argsort(order)]


def form(x, hessian):
    return float(((x @ hessian) * x).sum())


def main():
    folder, tokens, bits, group_size, out = sys.argv[1:]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    samples = torch.from_numpy(numpy.load(tokens).astype(numpy.int64))
    layers, hessians = layer_inputs(model, samples)
    errors = {}
    for name, layer in layers.items():
        weights, hessian = layer.weight.detach().double(), hessians[name]
        errors[name] = form(weights - quantize(weights, hessian, int(bits), int(group_size)), hessian) / form(weights, hessian)
    with open(out, "w", encoding="utf-8") as file:
        json.dump(errors, file)


main()
