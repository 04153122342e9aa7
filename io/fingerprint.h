/* The fingerprint of a job: lines "key: value" of everything that decides its bytes. Local. */
#ifndef SQ_IO_FINGERPRINT_H
#define SQ_IO_FINGERPRINT_H

#include <stdint.h>

#include "base/status.h"
#include "config/config.h"

/* What decides a job's bytes beside its settings. */
struct sq_fingerprint_inputs {
    uint64_t model_hash, tokens_hash;
    const char *compute, *backend, *isa, *libraries;
};

/* The settings' lines (sq_config_fingerprint), then those of the inputs, which begin with model_hash, and of the
 * program. Released with sq_free(). */
enum sq_status sq_fingerprint_make(const char *settings, const struct sq_fingerprint_inputs *inputs,
                                   char **text_p) SQ_MUST_CHECK;

/* *text_p: how two fingerprints, or other lines "key: value", differ, "KEY: HOLDER has A, SEEKER has B; ...", released
 * with sq_free(); NULL: not. */
enum sq_status sq_fingerprint_compare(const char *stored, const char *holder, const char *wanted, const char *seeker,
                                      char **text_p) SQ_MUST_CHECK;

/* Whether a job with this fingerprint makes the bytes of the record that its settings come from; SQ_ERR_USAGE names
 * what differs. A job with another model or other tokens, or without a record, makes its own. */
enum sq_status sq_fingerprint_check_record(const struct sq_config_record *record, const char *wanted) SQ_MUST_CHECK;

#endif
