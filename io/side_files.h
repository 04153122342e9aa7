/* What lies beside a model's weights and stays true of its quantized form: tokenizer (all kinds), chat templates,
 * generation and preprocessor settings, code of its own, licence, model card. */
#ifndef SQ_IO_SIDE_FILES_H
#define SQ_IO_SIDE_FILES_H

#include "base/status.h"

/* Copies the files of folder `from` unchanged, and folders in it that hold no weights. Left out: weights in any usual
 * form and their indexes, config.json and what else says how weights are stored, hidden files, and files of more than
 * 256 MiB, which the user is told of. Local. */
enum sq_status sq_side_files_copy(const char *from, const char *to) SQ_MUST_CHECK;

#endif
