/* A GPTQ layer that a test writes. */
#ifndef SQ_TESTS_GPTQ_FIXTURE_H
#define SQ_TESTS_GPTQ_FIXTURE_H

#include "io/pack.h"
#include "quantized_fixture.h"

#define IN 96
#define GROUPS 3
#define MAX_WORDS (IN * 8 / 32 * OUT)

/* One layer "layer" and how it is written. */
struct layer {
    int bits;
    const char *config;      /* config.json */
    const char *older;       /* quantize_config.json; NULL: there is none */
    const char *scale_dtype; /* F32 or F16 */
    bool with_g_idx, less_one;
    uint8_t codes[OUT][IN], zeros[GROUPS][OUT];
    float scales[GROUPS][OUT];
    int32_t g_idx[IN];
};

/* more: members behind a comma */
#define CONFIG(format, more)                                                                                           \
    "{\"quantization_config\": {\"quant_method\": \"gptq\", \"checkpoint_format\": \"" format "\"" more "}}"
#define BITS_4 ", \"bits\": 4, \"group_size\": 32"

static inline void make_layer(int bits, struct layer *layer)
{
    uint32_t x = (uint32_t)bits;
    *layer = (struct layer){.bits = bits, .config = CONFIG("gptq_v2", ""), .scale_dtype = "F32", .with_g_idx = true};
    for (int n = 0; n < OUT; n++)
        for (int k = 0; k < IN; k++)
            layer->codes[n][k] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24 & ((1u << bits) - 1));
    for (int g = 0; g < GROUPS; g++)
        for (int n = 0; n < OUT; n++) {
            layer->zeros[g][n] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24 & ((1u << bits) - 1));
            layer->scales[g][n] = 0.25f + (float)(x >> 22);
        }
    for (int k = 0; k < IN; k++)
        layer->g_idx[k] = k * 7 % GROUPS; /* an order that no group size explains */
}

/* Zeros less one as they came about: one taken from every field of a whole word at once, or with 3 bits from each
 * field. */
static inline void pack_zeros(const struct layer *layer, int g, uint32_t *words, int64_t n_words)
{
    uint8_t zeros[OUT];
    uint32_t mask = (1u << layer->bits) - 1;
    for (int n = 0; n < OUT; n++)
        zeros[n] =
            (uint8_t)(layer->bits == 3 && layer->less_one ? (layer->zeros[g][n] - 1u) & mask : layer->zeros[g][n]);
    sq_pack_codes(layer->bits, 1, OUT, zeros, words, 1);
    for (int64_t w = 0; w < n_words && layer->bits != 3 && layer->less_one; w++)
        words[w] -= UINT32_MAX / mask;
}

static inline void write_layer(const struct folder *folder, const void *written)
{
    const struct layer *layer = written;
    static uint32_t qweight[MAX_WORDS], qzeros[GROUPS * OUT];
    static unsigned char data[1 << 17];
    static uint16_t halves[GROUPS * OUT];
    char header[2048];
    int64_t words = sq_pack_words(IN, layer->bits), zero_words = sq_pack_words(OUT, layer->bits);
    size_t end[5] = {0}, used = 0;
    sq_pack_codes(layer->bits, OUT, IN, layer->codes[0], qweight, OUT);
    for (int g = 0; g < GROUPS; g++)
        pack_zeros(layer, g, qzeros + g * zero_words, zero_words);
    bool is_half = !strcmp(layer->scale_dtype, "F16");
    sq_dtype_from_f32(layer->scales[0], GROUPS * OUT, SQ_F16, halves);
    end[1] = append(data, &used, qweight, (size_t)(words * OUT) * 4);
    end[2] = append(data, &used, qzeros, (size_t)(GROUPS * zero_words) * 4);
    end[3] = append(data, &used, is_half ? (const void *)halves : (const void *)layer->scales,
                    GROUPS * OUT * (is_half ? 2 : 4));
    end[4] = append(data, &used, layer->g_idx, sizeof layer->g_idx);
    snprintf(header, sizeof header,
             "{\"layer.qweight\":{\"dtype\":\"I32\",\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]},"
             "\"layer.qzeros\":{\"dtype\":\"I32\",\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]},"
             "\"layer.scales\":{\"dtype\":\"%s\",\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]},"
             "\"%s\":{\"dtype\":\"I32\",\"shape\":[%d],\"data_offsets\":[%zu,%zu]}}",
             (int)words, OUT, end[0], end[1], GROUPS, (int)zero_words, end[1], end[2], layer->scale_dtype, GROUPS, OUT,
             end[2], end[3], layer->with_g_idx ? "layer.g_idx" : "other", IN, end[3], end[4]);
    folder_write_tensors(folder, "model.safetensors", header, data, used);
    folder_write_text(folder, "config.json", layer->config);
    if (layer->older) folder_write_text(folder, "quantize_config.json", layer->older);
}

static inline float weight_of(const void *written, int n, int k)
{
    const struct layer *layer = written;
    int g = layer->with_g_idx ? layer->g_idx[k] : k / (IN / GROUPS);
    return layer->scales[g][n] * (float)(layer->codes[n][k] - layer->zeros[g][n]);
}

static inline int64_t bytes_of(const void *written)
{
    const struct layer *layer = written;
    int64_t words = sq_pack_words(IN, layer->bits) * OUT + GROUPS * sq_pack_words(OUT, layer->bits);
    return 4 * words + GROUPS * OUT * (!strcmp(layer->scale_dtype, "F16") ? 2 : 4);
}

static const struct form form = {IN, write_layer, weight_of, bytes_of};

#endif
