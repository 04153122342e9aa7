/* The table: seen with tools/interop.py, in the versions named. A reader that takes a combination in a later version
 * loses its row; a new refusal is a new row. */
#include "io/readers.h"

#include <string.h>

#include "base/log.h"
#include "io/modules.h"

#define GPTQ_V1 (1u << SQ_FORMAT_GPTQ)
#define GPTQ_V2 (1u << SQ_FORMAT_GPTQ_V2)
#define GPTQ (GPTQ_V1 | GPTQ_V2)
#define PACKED (1u << SQ_FORMAT_COMPRESSED_TENSORS)

#define TRANSFORMERS "transformers 5.23"
#define GPTQMODEL "GPTQModel 7.7"
#define VLLM "vLLM 0.32"
#define EXLLAMAV2 "ExLlamaV2 0.3"

/* --- what a layer may have ---------------------------------------------------------------------------------------- */

static bool is_few_bits(const struct sq_store_layer *layer)
{
    return layer->grid.bits < 4;
}

static bool has_not_4_bits(const struct sq_store_layer *layer)
{
    return layer->grid.bits != 4;
}

static bool is_asymmetric(const struct sq_store_layer *layer)
{
    return !layer->grid.symmetric;
}

static bool is_ragged(const struct sq_store_layer *layer)
{
    return layer->in_features % layer->grid.group_size != 0;
}

/* The output layer: in no numbered part of the model. */
static bool is_head(const struct sq_store_layer *layer)
{
    const char *rest;
    return !sq_module_is_in_block(layer->name, &rest);
}

static bool is_uncommon_group(const struct sq_store_layer *layer)
{
    int64_t size = layer->grid.group_size;
    return size < layer->in_features && size != 32 && size != 64 && size != 128;
}

/* Mixtral's experts have two names. */
static bool has_published_name(const struct sq_store_layer *layer)
{
    return strstr(layer->name, ".block_sparse_moe.experts.") != NULL;
}

static bool has_new_name(const struct sq_store_layer *layer)
{
    return strstr(layer->name, ".mlp.experts.") != NULL;
}

/* Of no power of two, or smaller than what is read at once. */
static bool is_odd_group(const struct sq_store_layer *layer)
{
    int64_t size = layer->grid.group_size;
    return size < layer->in_features && (size < 32 || (size & (size - 1)) != 0);
}

static bool has_odd_width(const struct sq_store_layer *layer)
{
    return layer->in_features % 32 != 0;
}

/* --- what config.json may say ------------------------------------------------------------------------------------- */

static bool has_query_norms(const json_t *config)
{
    return json_is_true(json_object_get(config, "qk_layernorm"));
}

static bool has_dense_blocks(const json_t *config)
{
    return json_array_size(json_object_get(config, "mlp_only_layers")) > 0 ||
           json_integer_value(json_object_get(config, "decoder_sparse_step")) > 1;
}

static bool has_bias(const json_t *config)
{
    const json_t *bias = json_object_get(config, "bias");
    return !bias || json_is_true(bias); /* the default */
}

static bool has_attention_bias(const json_t *config)
{
    return json_is_true(json_object_get(config, "attention_bias"));
}

static bool is_not_f16(const json_t *config)
{
    const char *type = json_string_value(json_object_get(config, "torch_dtype"));
    if (!type) type = json_string_value(json_object_get(config, "dtype"));
    return !type || strcmp(type, "float16");
}

static bool has_wide_biases(const json_t *config)
{
    return has_attention_bias(config) && is_not_f16(config);
}

static bool turns_halves(const json_t *config)
{
    return json_is_false(json_object_get(config, "rope_interleave"));
}

static bool has_other_width(const json_t *config)
{
    json_int_t width = json_integer_value(json_object_get(config, "ffn_hidden_size"));
    return width > 0 && width != 4 * json_integer_value(json_object_get(config, "hidden_size"));
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

#define MAX_ARCHITECTURES 15
#define WANTS_PUBLISHED                                                                                                \
    "refuses it: it wants block_sparse_moe.experts.N.w1, where the model has mlp.experts.N.gate_proj"

struct gap {
    const char *reader;
    unsigned formats;
    const char *architectures[MAX_ARCHITECTURES];        /* none: all */
    bool (*applies)(const struct sq_store_layer *layer); /* to one layer at least; NULL: whatever the layers */
    bool (*has)(const json_t *config);                   /* NULL: whatever it says */
    const char *what;
};

/* clang-format off */
static const struct gap gaps[] = {
    {TRANSFORMERS, GPTQ, {"GPT2LMHeadModel", "GPTBigCodeForCausalLM"}, NULL, NULL,
     "ends with an error: it initialises the weights of layers that it has replaced"},
    {TRANSFORMERS, PACKED, {"GPT2LMHeadModel"}, NULL, NULL,
     "leaves all layers at random values: its Conv1D is no Linear for compressed-tensors"},
    {TRANSFORMERS, PACKED, {"GPTBigCodeForCausalLM", "FalconForCausalLM"}, NULL, NULL,
     "loads it only with CompressedTensorsConfig(dequantize=True)"},
    {TRANSFORMERS, GPTQ, {"FalconForCausalLM"}, NULL, NULL,
     "leaves all layers at random values: FalconLinear is not among the classes that it replaces"},
    {TRANSFORMERS, GPTQ, {"MixtralForCausalLM", "Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM", "OlmoeForCausalLM",
                          "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM", "GptOssForCausalLM"}, NULL, NULL,
     "leaves the experts at random values: it looks for them in fused tensors"},
    {TRANSFORMERS, PACKED, {"GptOssForCausalLM"}, NULL, NULL,
     "leaves the experts at random values: it looks for them in fused tensors"},
    {TRANSFORMERS, GPTQ, {NULL}, is_head, NULL, "leaves the output layer at random values: it replaces layers of the blocks only"},
    {TRANSFORMERS, PACKED, {NULL}, is_asymmetric, NULL,
     "loads it only with CompressedTensorsConfig(dequantize=True)"},
    {GPTQMODEL, GPTQ, {"Phi3ForCausalLM", "GlmForCausalLM", "Glm4ForCausalLM"}, NULL, NULL,
     "refuses it: it wants gate_proj and up_proj apart, where the model has gate_up_proj"},
    {GPTQMODEL, GPTQ, {"MixtralForCausalLM"}, has_published_name, NULL,
     "refuses it: it wants mlp.experts.N.gate_proj, where the model has block_sparse_moe.experts.N.w1"},
    {GPTQMODEL, GPTQ, {"GPTNeoXForCausalLM"}, NULL, NULL,
     "computes with an unset output layer: it looks for lm_head, where the model has embed_out"},
    {GPTQMODEL, GPTQ, {"Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM"}, NULL, has_dense_blocks,
     "leaves the blocks without experts at random values"},
    {VLLM, GPTQ | PACKED, {"StableLmForCausalLM"}, NULL, has_query_norms,
     "refuses it: it has no StableLM with norms of queries and keys"},
    {VLLM, GPTQ | PACKED, {"InternLM2ForCausalLM"}, NULL, has_bias, "takes InternLM2's layers without bias only"},
    {VLLM, GPTQ | PACKED, {"FalconForCausalLM"}, NULL, has_other_width,
     "takes an MLP of four times the model's width only"},
    {VLLM, GPTQ | PACKED, {"DeepseekV3ForCausalLM"}, NULL, turns_halves,
     "turns pairs of neighbours, whatever rope_interleave says"},
    {VLLM, GPTQ | PACKED, {"DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM"}, NULL, has_attention_bias,
     "takes latent attention without bias only"},
    {VLLM, GPTQ | PACKED, {"MixtralForCausalLM"}, has_new_name, NULL, WANTS_PUBLISHED},
    {VLLM, GPTQ | PACKED, {"BloomForCausalLM"}, NULL, NULL,
     "ends with an error: it reorders query_key_value as if it were not quantized"},
    {VLLM, GPTQ | PACKED, {"GptOssForCausalLM"}, NULL, NULL, "has no names for quantized experts one by one"},
    {VLLM, GPTQ, {NULL}, is_few_bits, NULL, "takes 4 and 8 bits only"},
    {VLLM, GPTQ, {NULL}, is_asymmetric, NULL, "takes symmetric layers only"},
    {VLLM, GPTQ, {NULL}, is_ragged, NULL, "leaves out a last group that is shorter than the others, without a word"},
    {VLLM, GPTQ | PACKED, {NULL}, is_uncommon_group, NULL, "takes groups of 32, 64 or 128 only, or one for each channel"},
    {EXLLAMAV2, GPTQ, {"OPTForCausalLM", "BloomForCausalLM", "GPTNeoXForCausalLM", "GPTJForCausalLM", "PhiForCausalLM",
                       "FalconForCausalLM", "StableLmForCausalLM", "Gemma3ForCausalLM", "GlmForCausalLM",
                       "Olmo2ForCausalLM", "OlmoeForCausalLM", "Qwen2MoeForCausalLM", "DeepseekV2ForCausalLM",
                       "DeepseekV3ForCausalLM", "GptOssForCausalLM"}, NULL, NULL, "does not know the family"},
    {EXLLAMAV2, GPTQ, {"Phi3ForCausalLM", "InternLM2ForCausalLM", "GPT2LMHeadModel", "GPTBigCodeForCausalLM",
                       "Glm4ForCausalLM"}, NULL, NULL,
     "takes layers that are several in one (queries, keys and values, or gate and up) only where they are not quantized"},
    {EXLLAMAV2, GPTQ, {"MixtralForCausalLM"}, has_new_name, NULL, WANTS_PUBLISHED},
    {EXLLAMAV2, GPTQ, {"Qwen3ForCausalLM", "Qwen3MoeForCausalLM"}, NULL, NULL,
     "takes the mean off queries and keys when it norms them, which the model does not"},
    {EXLLAMAV2, GPTQ, {"Qwen2ForCausalLM"}, NULL, is_not_f16, "takes biases in F16 only, which the model has in another type"},
    {EXLLAMAV2, GPTQ, {"LlamaForCausalLM", "Qwen3ForCausalLM", "GraniteForCausalLM"}, NULL, has_wide_biases,
     "takes biases in F16 only, which the model has in another type"},
    {EXLLAMAV2, GPTQ, {"GraniteForCausalLM"}, NULL, has_attention_bias, "leaves residual_multiplier out for biases"},
    {EXLLAMAV2, GPTQ, {NULL}, has_not_4_bits, NULL, "takes 4 bits only"},
    {EXLLAMAV2, GPTQ, {NULL}, is_asymmetric, NULL, "misreads zero points of 0, and their neighbours"},
    {EXLLAMAV2, GPTQ, {NULL}, is_odd_group, NULL, "takes groups of 32, 64, 128 and other powers of two only"},
    {EXLLAMAV2, GPTQ, {NULL}, has_odd_width, NULL, "takes layers of 32, 64, 96 inputs and other multiples of 32 only"},
};
/* clang-format on */

static bool has_architecture(const struct gap *gap, const char *architecture)
{
    if (!gap->architectures[0]) return true;
    for (int i = 0; i < MAX_ARCHITECTURES && gap->architectures[i]; i++)
        if (!strcmp(gap->architectures[i], architecture)) return true;
    return false;
}

static bool has_layer(const struct gap *gap, const struct sq_store_layer *layers, int n_layers)
{
    if (!gap->applies) return true;
    for (int l = 0; l < n_layers; l++)
        if (gap->applies(&layers[l])) return true;
    return false;
}

void sq_readers_tell(const char *out, const json_t *config, enum sq_format format, const struct sq_store_layer *layers,
                     int n_layers)
{
    const char *name = json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
    for (size_t i = 0; i < sizeof gaps / sizeof *gaps; i++)
        if ((gaps[i].formats & 1u << format) && has_architecture(&gaps[i], name ? name : "") &&
            has_layer(&gaps[i], layers, n_layers) && (!gaps[i].has || gaps[i].has(config)))
            sq_info("%s: %s %s", out, gaps[i].reader, gaps[i].what);
}
