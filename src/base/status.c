#include "base/status.h"

int sq_status_exit_code(enum sq_status status)
{
    switch (status) {
#define X(name, exit_code)                                                                                             \
    case name:                                                                                                         \
        return exit_code;
        SQ_STATUS_LIST(X)
#undef X
    }
    return 1;
}
