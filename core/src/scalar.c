/* The scalar kernels: the reference that the vector kernels are held against, and all that a microcontroller has.
 * Written to be read, not to be the fastest: every query alone, every candidate in turn. */
#include <math.h>
#include <string.h>

#include "checked.h"
#include "gradient.h"
#include "half.h"
#include "kernels.h"
#include "unusable.h"
#include "window.h"

/* prepared: mean_k, mean_v [blocks, D] */
static size_t prepared_bytes(const wdt_head *head, ptrdiff_t T)
{
    const size_t row = wdt_product((size_t)head->head_dim, 2 * sizeof(float));
    return wdt_product(row, (size_t)wdt_block_count(head, T));
}

static size_t scratch_bytes(const wdt_head *head, ptrdiff_t T)
{
    (void)head, (void)T;
    return 0;
}

static void prepare(const wdt_window *window, int share, int shares)
{
    const ptrdiff_t blocks = wdt_block_count(window->head, window->T);
    const ptrdiff_t first = wdt_share_begin(blocks, share, shares), last = wdt_share_begin(blocks, share + 1, shares);
    float *const mean_k = window->prepared;
    if (first < last) {
        wdt_mean_blocks(window, window->k, first, last, mean_k);
        wdt_mean_blocks(window, window->v, first, last, mean_k + blocks * window->head->head_dim);
    }
}

static void attend_window(const wdt_window *window, int share, int shares, void *scratch)
{
    const wdt_head *const head = window->head;
    const ptrdiff_t Hq = head->q_heads, Hkv = head->kv_heads, group = Hq / Hkv, D = head->head_dim, T = window->T;
    const ptrdiff_t blocks = wdt_block_count(head, T), at = window->kv_head * D; /* `at`: within a row of k or v */
    const float *const mean_k = window->prepared, *const mean_v = blocks ? mean_k + blocks * D : NULL;
    const wdt_rows token_rows = {window->k + at, window->v + at, Hkv * D, 0}, landmark_rows = {mean_k, mean_v, D, 0};
    (void)scratch;

    for (ptrdiff_t i = wdt_share_begin(T, share, shares); i < wdt_share_begin(T, share + 1, shares); i++) {
        wdt_candidates tokens, landmarks;
        wdt_token_candidates(head, i, T, &tokens);
        wdt_landmark_candidates(head, i, T, &landmarks);
        for (ptrdiff_t h = window->kv_head * group; h < (window->kv_head + 1) * group; h++) {
            const ptrdiff_t query = i * Hq + h;
            wdt_attend(window->q + query * D, (int)D, &token_rows, &tokens, &landmark_rows, &landmarks,
                       window->out + query * D, window->log_sum ? window->log_sum + query : NULL);
        }
    }
}

static void attend(const float *q, int heads, int D, const wdt_rows *token_rows, const wdt_candidates *tokens,
                   const wdt_rows *landmark_rows, const wdt_candidates *landmarks, float *out)
{
    for (int h = 0; h < heads; h++) {
        const ptrdiff_t at = (ptrdiff_t)h * D;
        wdt_attend(q + at, D, token_rows, tokens, landmark_rows, landmarks, out + at, NULL);
    }
}

static void add_product(const float *x, const void *W, int half, int32_t n_in, int32_t n_out, float *y)
{
    for (ptrdiff_t i = 0; i < n_in; i++) {
        for (ptrdiff_t j = 0; j < n_out; j++) {
            y[j] += x[i] * wdt_number_at(W, half, i * n_out + j);
        }
    }
}

static void add_transposed(const float *x, const void *W, int half, int32_t n_in, int32_t n_out, float *y)
{
    for (ptrdiff_t j = 0; j < n_out; j++) {
        for (ptrdiff_t i = 0; i < n_in; i++) {
            y[j] += x[i] * wdt_number_at(W, half, j * n_in + i);
        }
    }
}

static void to_half(const float *x, ptrdiff_t n, uint16_t *half)
{
    for (ptrdiff_t j = 0; j < n; j++) {
        half[j] = wdt_float_to_half(x[j]);
    }
}

static double multiply_add(int64_t rounds, float *sink)
{
    enum { LANES = 8 };
    float sums[LANES] = {0};
    for (int64_t round = 0; round < rounds; round++) {
        for (int l = 0; l < LANES; l++) {
            sums[l] = sums[l] * 0.999f + 1.0f;
        }
    }
    *sink = 0.0f;
    for (int l = 0; l < LANES; l++) {
        *sink += sums[l];
    }
    return 2.0 * LANES * (double)rounds;
}

const wdt_kernels wdt_kernels_scalar = {
    .name = "scalar",
    .prepared_bytes = prepared_bytes,
    .scratch_bytes = scratch_bytes,
    .prepare = prepare,
    .attend_window = attend_window,
    .backward_bytes = wdt_gradient_bytes,
    .backward = wdt_gradient,
    .attend = attend,
    .add_product = add_product,
    .add_transposed = add_transposed,
    .to_half = to_half,
    .first_unusable = wdt_find_unusable,
    .multiply_add = multiply_add,
};
