/* libFuzzer target: any bytes as a configuration file. What is accepted is written and read back the same. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Reads text over the defaults and gives the resolved copy; NULL when the text is refused. */
static char *resolve(const char *text, size_t size)
{
    struct sq_config config;
    char *yaml = NULL;
    if (sq_config_set_defaults(&config) != SQ_OK) return NULL;
    if (sq_config_read_yaml("file", text, size, &config) == SQ_OK) {
        enum sq_status status = sq_config_to_yaml(&config, &yaml);
        assert(status == SQ_OK);
    }
    sq_config_release(&config);
    return yaml;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char *first = resolve((const char *)bytes, size);
    if (!first) return 0;
    char *second = resolve(first, strlen(first));
    assert(second && !strcmp(first, second));
    sq_free(second);
    sq_free(first);
    return 0;
}
