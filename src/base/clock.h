/* Wall time. */
#ifndef SQ_BASE_CLOCK_H
#define SQ_BASE_CLOCK_H

/* Seconds of a monotonic clock; only differences mean something. */
double sq_seconds(void);

#endif
