/* The scalar kernels: the reference that the vector kernels are held against, and all that a microcontroller has.
 * Written to be read, not to be the fastest: every query alone, every candidate in turn. */
#include "gradient.h"
#include "half.h"
#include "kernels.h"
#include "positions.h"
#include "unusable.h"

static void attend_group(const float *q, int heads, int D, const wdt_rows *token_rows, const wdt_candidates *tokens,
                         const wdt_rows *landmark_rows, const wdt_candidates *landmarks, float *out, float *log_sum)
{
    for (int h = 0; h < heads; h++) {
        const ptrdiff_t at = (ptrdiff_t)h * D;
        wdt_attend(q + at, D, token_rows, tokens, landmark_rows, landmarks, out + at, log_sum ? log_sum + h : NULL);
    }
}

static void attend_window(const wdt_window *window, int share, int shares, void *scratch)
{
    (void)scratch;
    wdt_positions_attend(window, share, shares, attend_group);
}

static void attend(const float *q, int heads, int D, const wdt_rows *token_rows, const wdt_candidates *tokens,
                   const wdt_rows *landmark_rows, const wdt_candidates *landmarks, float *out)
{
    attend_group(q, heads, D, token_rows, tokens, landmark_rows, landmarks, out, NULL);
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

void wdt_to_half(const float *x, ptrdiff_t n, uint16_t *half)
{
    for (ptrdiff_t j = 0; j < n; j++) {
        half[j] = wdt_float_to_half(x[j]);
    }
}

double wdt_multiply_add_plainly(int64_t rounds, float *sink)
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
    .prepared_bytes = wdt_positions_prepared_bytes,
    .scratch_bytes = wdt_positions_scratch_bytes,
    .prepare = wdt_positions_prepare,
    .attend_window = attend_window,
    .backward_bytes = wdt_gradient_bytes,
    .backward = wdt_gradient,
    .attend = attend,
    .add_product = add_product,
    .add_transposed = add_transposed,
    .to_half = wdt_to_half,
    .first_unusable = wdt_find_unusable,
    .multiply_add = wdt_multiply_add_plainly,
};
