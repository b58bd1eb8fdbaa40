/* The scalar kernels: the reference that all other sets are held against, on every machine.
 * Written to be read, not to be the fastest: every query alone, every candidate in turn. A microcontroller has them too,
 * by name; portable.c and integer.c are what it starts with. */
#include "gradient.h"
#include "kernels.h"
#include "positions.h"
#include "unusable.h"
#include "weights.h"

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

/* y [n, n_out] (+)= x [n, n_in] times a matrix whose rows lie `row` apart and whose columns lie `column` apart. */
static void multiply(const float *x, int32_t n, const void *W, int dtype, ptrdiff_t n_in, ptrdiff_t n_out, ptrdiff_t row,
                     ptrdiff_t column, int add, float *y)
{
    const void *const numbers = wdt_tensor_numbers(W, dtype);
    const float scale = wdt_tensor_scale(W, dtype);
    for (int32_t r = 0; r < n; r++, x += n_in, y += n_out) {
        for (ptrdiff_t j = 0; j < n_out; j++) {
            const float before = add ? y[j] : 0.0f;
            float sum = dtype == WDT_INT8 ? 0.0f : before;
            for (ptrdiff_t i = 0; i < n_in; i++) {
                sum += x[i] * wdt_weight_at(numbers, dtype, i * row + j * column);
            }
            y[j] = dtype == WDT_INT8 ? before + sum * scale : sum;
        }
    }
}

static void product(const float *x, int32_t n, const void *W, int dtype, int32_t n_in, int32_t n_out, int add, float *y)
{
    multiply(x, n, W, dtype, n_in, n_out, n_out, 1, add, y);
}

static void product_transposed(const float *x, int32_t n, const void *W, int dtype, int32_t n_in, int32_t n_out, int add,
                               float *y)
{
    multiply(x, n, W, dtype, n_in, n_out, 1, n_in, add, y);
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
    .attend = attend,
    .product = product,
    .product_transposed = product_transposed,
    .to_half = wdt_to_half,
    .first_unusable = wdt_find_unusable,
};

const wdt_window_kernels wdt_window_kernels_scalar = {
    .prepared_bytes = wdt_positions_prepared_bytes,
    .scratch_bytes = wdt_positions_scratch_bytes,
    .prepare = wdt_positions_prepare,
    .attend = attend_window,
    .backward_bytes = wdt_gradient_bytes,
    .backward = wdt_gradient,
    .multiply_add = wdt_multiply_add_plainly,
};
