/* One query against rows of keys and values: what the window pass and the step have in common. */
#ifndef WDT_ATTEND_H
#define WDT_ATTEND_H

#include "wdt_attention.h"

/* Rows of one key/value head: row j of either starts `j * stride` elements after its pointer. An interval of candidates
 * that reaches beyond the first `ring` rows goes on at row 0. */
typedef struct wdt_rows {
    const void *keys, *values; /* float32, or float16 with `half` */
    ptrdiff_t stride;          /* elements */
    int half;
    ptrdiff_t ring; /* rows, at least as many as any interval is long; WDT_NO_RING */
} wdt_rows;

#define WDT_NO_RING PTRDIFF_MAX

/* The row of member j of an interval. */
static inline ptrdiff_t wdt_row_in_ring(const wdt_rows *rows, ptrdiff_t j)
{
    return j < rows->ring ? j : j - rows->ring;
}

/* a . b, of n numbers each, in the order of summation that scores have in the window pass and its gradient alike. */
float wdt_dot(const float *a, const float *b, ptrdiff_t n);

/* out [D] = softmax over tokens and landmarks together of q [D] . key / sqrt(D), times their values. There is at least
 * one candidate. out overlaps neither q nor the rows. log_sum, if not NULL, receives the log of the softmax's sum of
 * exp(score). */
void wdt_attend(const float *q, int D, const wdt_rows *token_rows, const wdt_candidates *tokens,
                const wdt_rows *landmark_rows, const wdt_candidates *landmarks, float *out, float *log_sum);

#endif
