/* Rotary position embedding: angles by position, from config.json. */
#ifndef SQ_MODEL_ROPE_H
#define SQ_MODEL_ROPE_H

#include <jansson.h>
#include <stdint.h>

#include "base/status.h"

enum sq_rope_kind { SQ_ROPE_PLAIN, SQ_ROPE_LINEAR, SQ_ROPE_LLAMA3 };

struct sq_rope {
    enum sq_rope_kind kind;
    double theta;
    double factor, low_factor, high_factor, original_length; /* by kind */
};

/* From `rope_parameters`, or `rope_theta` and `rope_scaling`. max_length: original length where the config does not
 * say. Any other kind of scaling: SQ_ERR_INPUT naming it. Local. */
enum sq_status sq_rope_read(const json_t *config, const char *folder, int64_t max_length,
                            struct sq_rope *rope_p) SQ_MUST_CHECK;

/* cosine, sine [length, n_frequencies]: angle of position t and pair i is t * f_i, f_i = theta^(-i / n_frequencies) as
 * scaled by `kind`. Frequencies and angles are rounded to f32, as the model was trained with. Local. */
void sq_rope_fill(const struct sq_rope *rope, int64_t length, int64_t n_frequencies, float *cosine, float *sine);

#endif
