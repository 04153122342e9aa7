#include "base/status.h"

const char *sq_status_text(enum sq_status status)
{
    switch (status) {
#define X(name, exit_code, text)                                                                                       \
    case name:                                                                                                         \
        return text;
        SQ_STATUS_LIST(X)
#undef X
    }
    return "unknown status";
}

int sq_status_exit_code(enum sq_status status)
{
    switch (status) {
#define X(name, exit_code, text)                                                                                       \
    case name:                                                                                                         \
        return exit_code;
        SQ_STATUS_LIST(X)
#undef X
    }
    return 1;
}
