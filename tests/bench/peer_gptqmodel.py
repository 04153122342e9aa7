#!/usr/bin/env python3
"""Quantizes with GPTQModel on the CPU, with the settings that it recommends: its group-aware activation order, its own damping."""

import peer

from gptqmodel import GPTQModel, QuantizeConfig


def main():
    arguments = peer.parse_arguments(__doc__)
    samples = [{"input_ids": ids.tolist(), "attention_mask": [1] * len(ids)} for ids in peer.read_samples(arguments.tokens)]
    # Modules are kept in memory: writing them to the disk in between, the default, is for models that do not fit.
    settings = QuantizeConfig(bits=arguments.bits, group_size=arguments.group_size, sym=True, desc_act=False,
                              act_group_aware=True, offload_to_disk=False)
    model = GPTQModel.load(arguments.model, settings, device="cpu", dtype=arguments.dtype)
    with peer.clock(arguments.report):
        model.quantize(samples, batch_size=arguments.batch)
    model.save(arguments.out)


if __name__ == "__main__":
    main()
