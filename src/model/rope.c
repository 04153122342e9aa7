/* The angles of a rotary embedding: frequencies by kind, cosines and sines. */
#define _GNU_SOURCE /* M_PI */
#include "model/rope.h"

#include <math.h>

/* Llama 3.1: frequencies whose wavelength is beyond the original length are divided by factor, short ones stay, those
 * between are interpolated. */
static double scale_llama3(const struct sq_rope *rope, double frequency)
{
    double turns = rope->original_length * frequency / (2 * M_PI); /* within the original length */
    if (turns > rope->high_factor) return frequency;
    if (turns < rope->low_factor) return frequency / rope->factor;
    double smooth = (turns - rope->low_factor) / (rope->high_factor - rope->low_factor);
    return (1 - smooth) * frequency / rope->factor + smooth * frequency;
}

/* YaRN (Peng et al., 2023): frequencies before the ramp stay, those after it are divided by factor. */
static double scale_yarn(const struct sq_rope *rope, int64_t i, double frequency)
{
    double width = rope->ramp_end - rope->ramp_begin;
    double part = fmin(fmax(((double)i - rope->ramp_begin) / (width == 0 ? 0.001 : width), 0), 1);
    return (1 - part) * frequency + part * (frequency / rope->factor);
}

/* "Dynamic NTK": samples beyond the original length have a larger base, with which the slowest frequency is divided by
 * factor * ratio - (factor - 1), and the fastest stays. */
static double theta_of(const struct sq_rope *rope, int64_t length)
{
    double ratio = (double)length / rope->original_length, n = (double)rope->n_frequencies;
    if (rope->kind != SQ_ROPE_DYNAMIC || ratio <= 1) return rope->theta;
    return rope->theta * pow(rope->factor * ratio - (rope->factor - 1), n / (n - 1));
}

double sq_rope_frequency(const struct sq_rope *rope, int64_t i, int64_t length)
{
    double frequency = pow(theta_of(rope, length), -(double)i / (double)rope->n_frequencies);
    switch (rope->kind) {
    case SQ_ROPE_LINEAR:
        return frequency / rope->factor;
    case SQ_ROPE_LLAMA3:
        return scale_llama3(rope, frequency);
    case SQ_ROPE_YARN:
        return scale_yarn(rope, i, frequency);
    case SQ_ROPE_LONG: {
        const json_t *factors = (double)length > rope->original_length ? rope->long_factors : rope->short_factors;
        return frequency / json_number_value(json_array_get(factors, (size_t)i));
    }
    case SQ_ROPE_PLAIN:
    case SQ_ROPE_DYNAMIC:
        break;
    }
    return frequency;
}

void sq_rope_fill(const struct sq_rope *rope, int64_t length, float *cosine, float *sine)
{
    int64_t n = rope->n_frequencies;
    for (int64_t i = 0; i < n; i++) {
        float frequency = (float)sq_rope_frequency(rope, i, length), scale = (float)rope->scale;
        for (int64_t t = 0; t < length; t++) {
            float angle = (float)t * frequency;
            cosine[t * n + i] = (float)cos((double)angle) * scale;
            sine[t * n + i] = (float)sin((double)angle) * scale;
        }
    }
}
