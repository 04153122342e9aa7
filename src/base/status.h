/* The one status type of the program. Every function that can fail returns it; outputs are set only on SQ_OK.
 * The function that first sees an error prints it with sq_error(); callers pass the status up silently. */
#ifndef SQ_BASE_STATUS_H
#define SQ_BASE_STATUS_H

/* X(name, exit code); ordered by severity: ranks agree on the largest (sq_comm_agree) */
#define SQ_STATUS_LIST(X)                                                                                              \
    X(SQ_OK, 0)                                                                                                        \
    X(SQ_STOPPED, 75)    /* at a safe point; resumable */                                                              \
    X(SQ_ERR_USAGE, 2)   /* options that are wrong, or do not go with what is there */                                 \
    X(SQ_ERR_BUSY, 1)    /* another job has what this one needs */                                                     \
    X(SQ_ERR_INPUT, 1)   /* a file that does not hold what it should */                                                \
    X(SQ_ERR_IO, 1)      /* reading or writing failed */                                                               \
    X(SQ_ERR_MEMORY, 1)  /* there is none left */                                                                      \
    X(SQ_ERR_NUMERIC, 1) /* NaN, infinity, not definite; where a function leaves the message to others, it says so */  \
    X(SQ_ERR_LIBRARY, 1) /* a call of a library failed */                                                              \
    X(SQ_ERR_STRICT, 1)  /* warnings under --strict */

/* X(exit code, what it says to a script); every code of the program is here, also that of base/watch.h */
#define SQ_EXIT_LIST(X)                                                                                                \
    X(0, "done")                                                                                                       \
    X(1, "failed; the message says where")                                                                             \
    X(2, "wrong usage: an option, or a file that does not go with the options")                                        \
    X(75, "stopped at a safe point by a signal; the same command with --resume goes on")                               \
    X(76, "waited in vain for another rank (--timeout); the same command with --resume goes on")

enum sq_status {
#define X(name, exit_code) name,
    SQ_STATUS_LIST(X)
#undef X
};

#define SQ_MUST_CHECK __attribute__((warn_unused_result))
#define SQ_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Return early where nothing is owned yet; otherwise use goto with labels named for what they undo. */
#define SQ_TRY(call)                                                                                                   \
    do {                                                                                                               \
        enum sq_status sq_try_status = (call);                                                                         \
        if (sq_try_status != SQ_OK) return sq_try_status;                                                              \
    } while (0)

/* Exit code of the process that ends with this status. */
int sq_status_exit_code(enum sq_status status);

#endif
