/* The one status type of the program. Every function that can fail returns it; outputs are set only on SQ_OK.
 * The function that first sees an error prints it with sq_error(); callers pass the status up silently. */
#ifndef SQ_BASE_STATUS_H
#define SQ_BASE_STATUS_H

/* X(name, exit code, text); ordered by severity: ranks agree on the largest (sq_comm_agree) */
#define SQ_STATUS_LIST(X)                                                                                              \
    X(SQ_OK, 0, "success")                                                                                             \
    X(SQ_STOPPED, 75, "stopped at a safe point; resumable")                                                            \
    X(SQ_ERR_USAGE, 2, "wrong usage")                                                                                  \
    X(SQ_ERR_INPUT, 1, "bad input")                                                                                    \
    X(SQ_ERR_IO, 1, "input or output failed")                                                                          \
    X(SQ_ERR_MEMORY, 1, "out of memory")                                                                               \
    X(SQ_ERR_NUMERIC, 1, "numerical failure")                                                                          \
    X(SQ_ERR_LIBRARY, 1, "a library call failed")                                                                      \
    X(SQ_ERR_STRICT, 1, "warnings under --strict")

enum sq_status {
#define X(name, exit_code, text) name,
    SQ_STATUS_LIST(X)
#undef X
};

#define SQ_MUST_CHECK __attribute__((warn_unused_result))

/* Return early where nothing is owned yet; otherwise use goto with labels named for what they undo. */
#define SQ_TRY(call)                                                                                                   \
    do {                                                                                                               \
        enum sq_status sq_try_status = (call);                                                                         \
        if (sq_try_status != SQ_OK) return sq_try_status;                                                              \
    } while (0)

/* Text for a status; never NULL. */
const char *sq_status_text(enum sq_status status);

/* Exit code of the process that ends with this status. */
int sq_status_exit_code(enum sq_status status);

#endif
