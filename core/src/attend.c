/* Attention of one query, in the scalar kernels: the form that all others are held against.
 *
 * A running ("online") softmax: the score that weights are relative to, the sum of weights, and the weighted sum of
 * values. Seeing a much larger score rescales the two sums, so no score is stored and none overflows.
 * Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018, algorithm 3. */
#include "attend.h"

#include <math.h>
#include <string.h>

#include "half.h"

typedef struct softmax_state {
    float largest; /* score that the weights are relative to */
    float sum;     /* of exp(score - largest), at least 1 */
} softmax_state;

/* A score that is larger by less than this does not move `largest`: its weight, at most e^8, harms no sum, and most
 * rescaling is saved. The quotient at the end is the same. */
#define RESCALE_SLACK 8.0f

#define LANES 8 /* partial sums of a dot product: enough for any vector unit, and kinder to rounding than one */

float wdt_dot(const float *a, const float *b, ptrdiff_t n)
{
    float lane[LANES] = {0};
    ptrdiff_t d = 0;
    for (; d + LANES <= n; d += LANES) {
        for (int l = 0; l < LANES; l++) {
            lane[l] += a[d + l] * b[d + l];
        }
    }
    for (int l = 0; d < n; d++, l++) {
        lane[l] += a[d] * b[d];
    }
    return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}

static float dot_half(const float *a, const uint16_t *b, int n)
{
    float sum = 0.0f;
    for (int d = 0; d < n; d++) {
        sum += a[d] * wdt_half_to_float(b[d]);
    }
    return sum;
}

/* Weight of a candidate with this score; rescales what has been summed if the score is by far the largest yet. */
static float weigh(softmax_state *softmax, float score, float *restrict out, int D)
{
    if (score > softmax->largest + RESCALE_SLACK) {
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
static inline void attend_row(const float *q, float scale, int D, const wdt_rows *rows, ptrdiff_t j, int half,
                              softmax_state *softmax, float *restrict out)
{
    if (half) {
        const uint16_t *key = (const uint16_t *)rows->keys + j * rows->stride;
        const uint16_t *value = (const uint16_t *)rows->values + j * rows->stride;
        const float weight = weigh(softmax, dot_half(q, key, D) * scale, out, D);
        for (int d = 0; d < D; d++) {
            out[d] += weight * wdt_half_to_float(value[d]);
        }
    } else {
        const float *key = (const float *)rows->keys + j * rows->stride;
        const float *value = (const float *)rows->values + j * rows->stride;
        const float weight = weigh(softmax, wdt_dot(q, key, D) * scale, out, D);
        for (int d = 0; d < D; d++) {
            out[d] += weight * value[d];
        }
    }
}

static inline void attend_rows(const float *q, float scale, int D, const wdt_rows *rows,
                               const wdt_candidates *candidates, int half, softmax_state *softmax, float *out)
{
    for (ptrdiff_t j = candidates->begin; j < candidates->end; j++) {
        attend_row(q, scale, D, rows, wdt_row_in_ring(rows, j), half, softmax, out);
    }
    for (int s = 0; s < candidates->n_singles; s++) {
        attend_row(q, scale, D, rows, candidates->singles[s], half, softmax, out);
    }
}

/* Landmarks are always float32; `half` is a constant in each call, so that there is a loop for either dtype. */
void wdt_attend(const float *q, int D, const wdt_rows *token_rows, const wdt_candidates *tokens,
                const wdt_rows *landmark_rows, const wdt_candidates *landmarks, float *out, float *log_sum)
{
    const float scale = 1.0f / sqrtf((float)D);
    softmax_state softmax = {-INFINITY, 0.0f};
    memset(out, 0, (size_t)D * sizeof *out);
    if (token_rows->half) {
        attend_rows(q, scale, D, token_rows, tokens, 1, &softmax, out);
    } else {
        attend_rows(q, scale, D, token_rows, tokens, 0, &softmax, out);
    }
    attend_rows(q, scale, D, landmark_rows, landmarks, 0, &softmax, out);
    const float inverse = 1.0f / softmax.sum; /* one candidate has weight 1, so the sum is at least that */
    for (int d = 0; d < D; d++) {
        out[d] *= inverse;
    }
    if (log_sum) {
        *log_sum = softmax.largest + logf(softmax.sum);
    }
}
