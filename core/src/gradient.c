/* The gradient of the window pass, the plain way: every query alone, every candidate in turn.
 *
 * For a query q with candidates j, keys k_j and values v_j (of tokens, or means of blocks):
 *
 *   s_j = q . k_j / sqrt(D)     p_j = exp(s_j - log_sum)     out = sum_j p_j v_j
 *
 * and with g the loss's gradient by out, and delta = g . out:
 *
 *   d v_j = p_j g     d s_j = p_j (g . v_j - delta)     d q = sum_j d s_j k_j / sqrt(D)     d k_j = d s_j q / sqrt(D)
 *
 * log_sum comes from the forward pass, so no score is stored (Dao et al., "FlashAttention", 2022, algorithm 4). What a
 * mean receives, each of its block's tokens receives in equal parts. */
#include "gradient.h"

#include <math.h>
#include <string.h>

#include "attend.h"
#include "checked.h"
#include "window.h"

/* One query, and its softmax. */
typedef struct query {
    const float *q, *d_out; /* [D] */
    float *dq;              /* [D] */
    float log_sum, delta, scale;
    ptrdiff_t D;
} query;

/* Keys and values that candidates point into, and where their gradients go: row j starts at j * stride. */
typedef struct rows {
    const float *keys, *values;
    float *d_keys, *d_values;
    ptrdiff_t stride;
} rows;

/* scratch: mean_k, mean_v, d_mean_k, d_mean_v [blocks, D] */
size_t wdt_gradient_bytes(const wdt_head *head, ptrdiff_t T)
{
    const size_t row = wdt_product((size_t)head->head_dim, 4 * sizeof(float));
    return wdt_product(row, (size_t)wdt_block_count(head, T));
}

/* p is at most 1. Of scores so large that they have no digit left behind the point, rounding could make it anything. */
static void through_row(const query *query, const rows *rows, ptrdiff_t j)
{
    const ptrdiff_t at = j * rows->stride;
    const float *const key = rows->keys + at, *const value = rows->values + at;
    float *const d_key = rows->d_keys + at, *const d_value = rows->d_values + at;
    const float p = expf(fminf(wdt_dot(query->q, key, query->D) * query->scale - query->log_sum, 0.0f));
    const float ds = p * (wdt_dot(query->d_out, value, query->D) - query->delta) * query->scale;
    for (ptrdiff_t d = 0; d < query->D; d++) {
        query->dq[d] += ds * key[d];
        d_key[d] += ds * query->q[d];
        d_value[d] += p * query->d_out[d];
    }
}

static void through_rows(const query *query, const rows *rows, const wdt_candidates *candidates)
{
    for (ptrdiff_t j = candidates->begin; j < candidates->end; j++) {
        through_row(query, rows, j);
    }
    for (int s = 0; s < candidates->n_singles; s++) {
        through_row(query, rows, candidates->singles[s]);
    }
}

void wdt_gradient(const wdt_window *window, const float *d_out, float *dq, float *dk, float *dv, void *scratch)
{
    const wdt_head *const head = window->head;
    const ptrdiff_t Hq = head->q_heads, Hkv = head->kv_heads, group = Hq / Hkv, D = head->head_dim, T = window->T;
    const ptrdiff_t blocks = wdt_block_count(head, T), at = window->kv_head * D, means = blocks * D;
    float *const mean_k = scratch, *const mean_v = mean_k + means, *const d_means = mean_v + means;
    const rows tokens = {window->k + at, window->v + at, dk + at, dv + at, Hkv * D};
    const rows landmarks = {mean_k, mean_v, d_means, d_means + means, D};

    for (ptrdiff_t t = 0; t < T; t++) {
        memset(tokens.d_keys + t * tokens.stride, 0, (size_t)D * sizeof(float));
        memset(tokens.d_values + t * tokens.stride, 0, (size_t)D * sizeof(float));
    }
    if (blocks) {
        wdt_mean_blocks(window, window->k, 0, blocks, mean_k);
        wdt_mean_blocks(window, window->v, 0, blocks, mean_v);
        memset(d_means, 0, (size_t)(2 * means) * sizeof *d_means);
    }
    for (ptrdiff_t i = 0; i < T; i++) {
        wdt_candidates token_candidates, landmark_candidates;
        wdt_token_candidates(head, i, T, &token_candidates);
        wdt_landmark_candidates(head, i, T, &landmark_candidates);
        for (ptrdiff_t h = window->kv_head * group; h < (window->kv_head + 1) * group; h++) {
            const ptrdiff_t row = i * Hq + h;
            const query query = {
                .q = window->q + row * D,
                .d_out = d_out + row * D,
                .dq = dq + row * D,
                .log_sum = window->log_sum[row],
                .delta = wdt_dot(d_out + row * D, window->out + row * D, D),
                .scale = 1.0f / sqrtf((float)D),
                .D = D,
            };
            memset(query.dq, 0, (size_t)D * sizeof(float));
            through_rows(&query, &tokens, &token_candidates);
            through_rows(&query, &landmarks, &landmark_candidates);
        }
    }
    if (blocks) {
        wdt_spread_block_gradients(window, d_means, dk);
        wdt_spread_block_gradients(window, d_means + means, dv);
    }
}
