/* What programs that load checkpoints do not take, so that the user hears of it when one is written. */
#ifndef SQ_IO_READERS_H
#define SQ_IO_READERS_H

#include <jansson.h>

#include "config/config.h"
#include "io/store.h"

/* Shows one line for each reader that is known not to load the checkpoint `out` of these layers [n_layers] in this
 * format, not auto; config: that of the model, whose `architectures` decides. Local. */
void sq_readers_tell(const char *out, const json_t *config, enum sq_format format, const struct sq_store_layer *layers,
                     int n_layers);

#endif
