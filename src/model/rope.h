/* Rotary position embedding: how much of a head turns, and by which angles, from config.json. */
#ifndef SQ_MODEL_ROPE_H
#define SQ_MODEL_ROPE_H

#include "model/dimensions.h"

/* Which blocks have it. */
enum sq_rope_use {
    SQ_ROPE_NEVER,
    SQ_ROPE_EVERYWHERE,
    SQ_ROPE_BY_WINDOW, /* everywhere, but blocks with a sliding window have parameters of their own */
    SQ_ROPE_IN_WINDOWS /* only blocks with a sliding window */
};

/* What an architecture says of it; what is left out is the usual. */
struct sq_rope_form {
    enum sq_rope_use use;
    enum sq_rope_pairs pairs;
    const char *pairs_key;        /* where it is there: true for NEIGHBOURS, false for HALVES; NULL: no key says it */
    bool at_end;                  /* the last entries of a head turn, not the first */
    bool scales_scores;           /* mscale_all_dim is about the scores, too */
    const char *theta_key;        /* NULL: rope_theta */
    const char *window_theta_key; /* BY_WINDOW: of the blocks with a window */
    const char *part_key;         /* NULL: partial_rotary_factor */
    double theta;                 /* when no key says it; 0: 10000 */
    double part;                  /* of a head that turns, when no key says it; 0: all of it, and no key may say less */
};

enum sq_rope_kind { SQ_ROPE_PLAIN, SQ_ROPE_LINEAR, SQ_ROPE_DYNAMIC, SQ_ROPE_LLAMA3, SQ_ROPE_YARN, SQ_ROPE_LONG };

struct sq_rope {
    enum sq_rope_kind kind;
    enum sq_rope_pairs pairs;
    int64_t n_frequencies; /* pairs of a head that turn */
    double theta;
    double factor, low_factor, high_factor, original_length; /* by kind */
    double ramp_begin, ramp_end;                             /* YARN: places among the frequencies */
    double scale;                                            /* of cosines and sines; 1 but for YARN and LONG */
    double score_scale;                                      /* of scores, besides the usual one */
    const json_t *short_factors, *long_factors; /* LONG: [n_frequencies], of the config, which outlives it */
};

/* From `rope_parameters`, or `rope_theta` and `rope_scaling`; windowed: of the blocks with a sliding window. Any kind
 * of scaling that is not supported: SQ_ERR_INPUT naming it. Local. */
enum sq_status sq_rope_read(const struct sq_rope_form *form, bool windowed, const json_t *config, const char *folder,
                            const struct sq_dimensions *dims, struct sq_rope *rope_p) SQ_MUST_CHECK;

/* How far pair i turns from one position to the next, in samples of that length: theta^(-i / n_frequencies) as scaled
 * by `kind`. Local. */
double sq_rope_frequency(const struct sq_rope *rope, int64_t i, int64_t length);

/* cosine, sine [length, n_frequencies]: angle of position t and pair i is t * sq_rope_frequency(i). Frequencies
 * and angles are rounded to f32, as the model was trained with. Local. */
void sq_rope_fill(const struct sq_rope *rope, int64_t length, float *cosine, float *sine);

#endif
