/* Whether tokens were made with a model's own tokenizer. */
#ifndef SQ_IO_TOKENIZER_H
#define SQ_IO_TOKENIZER_H

#include "io/tokens.h"

/* Warns, on rank 0, of tokens whose file says that they were made with another tokenizer.json than the folder has: the
 * model would see other text. Says nothing where either is missing; a tokenizer that was merely written anew counts as
 * another one, which is why this is no error. path: of the tokens. SQ_ERR_IO when tokenizer.json cannot be read.
 * Collective. */
enum sq_status sq_tokenizer_compare(const struct sq_comm *comm, const struct sq_tokens *tokens, const char *path,
                                    const char *folder) SQ_MUST_CHECK;

#endif
