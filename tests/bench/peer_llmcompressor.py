#!/usr/bin/env python3
"""Quantizes with llm-compressor on the CPU, with the settings of its examples: static activation order, damping 0.01."""

import peer

import torch
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from transformers import AutoModelForCausalLM


def make_recipe(bits, group_size):
    weights = {"num_bits": bits, "type": "int", "symmetric": True, "strategy": "group", "group_size": group_size}
    return GPTQModifier(config_groups={"group_0": {"targets": ["Linear"], "weights": weights}}, ignore=["lm_head"],
                        actorder="static", dampening_frac=0.01)


def make_batches(samples, batch):
    rows = [{"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in samples]
    return torch.utils.data.DataLoader(rows, batch_size=batch)


def main():
    arguments = peer.parse_arguments(__doc__)
    samples = peer.read_samples(arguments.tokens)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=arguments.dtype)
    with peer.clock(arguments.report):
        oneshot(model=model, dataset=make_batches(samples, arguments.batch), recipe=make_recipe(
            arguments.bits, arguments.group_size), num_calibration_samples=len(samples), max_seq_length=len(samples[0]),
            pipeline="sequential")
    model.save_pretrained(arguments.out, save_compressed=True)


if __name__ == "__main__":
    main()
