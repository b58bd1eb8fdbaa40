/* One query against rows of keys and values: the inner loop that the window pass and the step share.
 *
 * A running ("online") softmax: the largest score so far, the sum of weights relative to it, and the weighted sum of
 * values. Seeing a much larger score rescales the two sums, so no score is stored and none overflows.
 * Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018, algorithm 3. */
#ifndef WDT_ATTEND_H
#define WDT_ATTEND_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "half.h"
#include "wdt_attention.h"

/* Rows of one key/value head: row j starts `j * stride` elements after `data`. */
typedef struct wdt_rows {
    const void *keys, *values; /* float32, or float16 with `half` */
    ptrdiff_t stride;          /* elements */
    int half;
} wdt_rows;

typedef struct wdt_softmax {
    float largest; /* score that the weights are relative to */
    float sum;     /* of exp(score - largest), at least 1 */
} wdt_softmax;

/* A score that is larger by less than this does not move `largest`: its weight, at most e^8, harms no sum, and most
 * rescaling is saved. The quotient at the end is the same. */
#define WDT_RESCALE_SLACK 8.0f

#define WDT_LANES 8 /* partial sums of a dot product: enough for any vector unit, and kinder to rounding than one */

static inline float wdt_dot(const float *a, const float *b, int n)
{
    float lane[WDT_LANES] = {0};
    int d = 0;
    for (; d + WDT_LANES <= n; d += WDT_LANES) {
        for (int l = 0; l < WDT_LANES; l++) {
            lane[l] += a[d + l] * b[d + l];
        }
    }
    for (int l = 0; d < n; d++, l++) {
        lane[l] += a[d] * b[d];
    }
    return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}

static inline float wdt_dot_half(const float *a, const uint16_t *b, int n)
{
    float sum = 0.0f;
    for (int d = 0; d < n; d++) {
        sum += a[d] * wdt_half_to_float(b[d]);
    }
    return sum;
}

/* Weight of a candidate with this score; rescales what has been summed if the score is by far the largest yet. */
static inline float wdt_softmax_weight(wdt_softmax *softmax, float score, float *restrict out, int D)
{
    if (score > softmax->largest + WDT_RESCALE_SLACK) {
        const float rescale = expf(softmax->largest - score); /* 0 for the first candidate: exp(-inf) */
        for (int d = 0; d < D; d++) {
            out[d] *= rescale;
        }
        softmax->sum *= rescale;
        softmax->largest = score;
    }
    const float weight = expf(score - softmax->largest);
    softmax->sum += weight;
    return weight;
}

/* Adds row j to out [D], for the query q [D]. */
static inline void wdt_attend_row(const float *q, float scale, int D, const wdt_rows *rows, ptrdiff_t j, int half,
                                  wdt_softmax *softmax, float *restrict out)
{
    if (half) {
        const uint16_t *key = (const uint16_t *)rows->keys + j * rows->stride;
        const uint16_t *value = (const uint16_t *)rows->values + j * rows->stride;
        const float weight = wdt_softmax_weight(softmax, wdt_dot_half(q, key, D) * scale, out, D);
        for (int d = 0; d < D; d++) {
            out[d] += weight * wdt_half_to_float(value[d]);
        }
    } else {
        const float *key = (const float *)rows->keys + j * rows->stride;
        const float *value = (const float *)rows->values + j * rows->stride;
        const float weight = wdt_softmax_weight(softmax, wdt_dot(q, key, D) * scale, out, D);
        for (int d = 0; d < D; d++) {
            out[d] += weight * value[d];
        }
    }
}

static inline void wdt_attend_rows(const float *q, float scale, int D, const wdt_rows *rows,
                                   const wdt_candidates *candidates, int half, wdt_softmax *softmax, float *out)
{
    for (ptrdiff_t j = candidates->begin; j < candidates->end; j++) {
        wdt_attend_row(q, scale, D, rows, j, half, softmax, out);
    }
    for (int s = 0; s < candidates->n_singles; s++) {
        wdt_attend_row(q, scale, D, rows, candidates->singles[s], half, softmax, out);
    }
}

/* out [D] = softmax over tokens and landmarks together of q . key / sqrt(D), times their values. Landmarks are always
 * float32; `half` is a constant in each branch, so that the compiler makes one loop for either dtype. */
static inline void wdt_attend(const float *q, int D, const wdt_rows *token_rows, const wdt_candidates *tokens,
                              const wdt_rows *landmark_rows, const wdt_candidates *landmarks, float *out)
{
    const float scale = 1.0f / sqrtf((float)D);
    wdt_softmax softmax = {-INFINITY, 0.0f};
    memset(out, 0, (size_t)D * sizeof *out);
    if (token_rows->half) {
        wdt_attend_rows(q, scale, D, token_rows, tokens, 1, &softmax, out);
    } else {
        wdt_attend_rows(q, scale, D, token_rows, tokens, 0, &softmax, out);
    }
    wdt_attend_rows(q, scale, D, landmark_rows, landmarks, 0, &softmax, out);
    const float inverse = 1.0f / softmax.sum; /* one candidate has weight 1, so the sum is at least that */
    for (int d = 0; d < D; d++) {
        out[d] *= inverse;
    }
}

#endif
