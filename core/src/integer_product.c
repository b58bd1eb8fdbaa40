/* The integer kernels' products with float32 and float16 weights, which become integers as they are loaded (block.h).
 *
 * Errors, beside the rounding of results to float; a block is up to INPUTS inputs:
 *   product             2^-26 of the sum over a block of |x| times its row's largest weight, for each input
 *   with the transpose  2^-23 of x's largest number in a block times the row's largest weight, for each input
 * A float16 row's largest number counts as at least 2^-14. */
#include "block.h"
#include "inline.h"
#include "integer.h"
#include "wdt_rvne.h"

enum {
    MAX_ROWS = 4, /* of x at once, so that a weight is converted once for them */
    OUTPUTS = 4,  /* in registers over a block of inputs */
    INPUTS = 64,  /* in a block */
};

/* A block of inputs of up to MAX_ROWS rows of x, with what the product needs of their rows of weights. */
typedef struct inputs {
    int n;
    int32_t factors[INPUTS * MAX_ROWS]; /* [n, R]: x, with the exponents of W's rows folded in */
    int32_t exponent[MAX_ROWS];         /* of the sums */
    int16_t exponents[INPUTS];           /* of W's rows */
} inputs;

/* x [R, n] of rows that lie n_in apart, and the rows [n, n_out] of W. */
static void load_inputs(const float *x, int R, ptrdiff_t n_in, const char *W, int half, int n, ptrdiff_t n_out,
                        inputs *block)
{
    const ptrdiff_t stride = n_out * (ptrdiff_t)wdt_number_bytes(half);
    int16_t folded[INPUTS];
    block->n = n;
    for (int i = 0; i < n; i++) {
        block->exponents[i] = (int16_t)wdt_integer_exponent(W + i * stride, half, n_out);
    }
    for (int r = 0; r < R; r++, x += n_in) {
        for (int i = 0; i < n; i++) { /* each x has its own exponent: it is a row of one number */
            const int32_t E = wdt_block_exponent(x + i, 0, 1);
            block->factors[i * R + r] = wdt_block_mantissa(x, 0, i, E);
            folded[i] = (int16_t)(E + block->exponents[i]);
        }
        block->exponent[r] = wdt_block_align(block->factors + r, folded, n, R) + 32 - 2 * WDT_BLOCK_BIAS;
    }
}

/* y [R, N] of rows n_out apart = the sum over the block of factors times N weights of each row from W on; or y + that. */
INLINE void multiply_outputs(const inputs *block, const char *W, int half, ptrdiff_t n_out, int R, int N, int add,
                             float *y)
{
    const ptrdiff_t stride = n_out * (ptrdiff_t)wdt_number_bytes(half);
    int32_t sums[OUTPUTS] = {0};
    for (int i = 0; i < block->n; i++, W += stride) {
        UNROLL
        for (int j = 0; j < N; j++) {
            const int32_t weight = wdt_block_mantissa(W, half, j, block->exponents[i]);
            UNROLL
            for (int r = 0; r < R; r++) {
                sums[r * N + j] += wdt_multiply_high(block->factors[i * R + r], weight);
            }
        }
    }
    for (int s = 0; s < R * N; s++) {
        float *const at = y + s / N * n_out + s % N;
        const float sum = wdt_block_float(sums[s], block->exponent[s / N]);
        *at = add ? *at + sum : sum;
    }
}

INLINE void multiply_block(const inputs *block, const char *W, int half, ptrdiff_t n_out, int R, int add, float *y)
{
    const ptrdiff_t bytes = (ptrdiff_t)wdt_number_bytes(half);
    ptrdiff_t j = 0;
    for (; j + OUTPUTS / R <= n_out; j += OUTPUTS / R) {
        multiply_outputs(block, W + j * bytes, half, n_out, R, OUTPUTS / R, add, y + j);
    }
    for (; j < n_out; j++) {
        multiply_outputs(block, W + j * bytes, half, n_out, R, 1, add, y + j);
    }
}

/* Of R rows of x, a block of inputs at a time. */
static void multiply(const float *x, int R, const void *W, int half, int32_t n_in, int32_t n_out, int add, float *y)
{
    inputs block;
    for (int32_t begin = 0; begin < n_in; begin += INPUTS, add = 1) {
        const int n = n_in - begin < INPUTS ? n_in - begin : INPUTS;
        const char *const from = (const char *)W + (ptrdiff_t)begin * n_out * (ptrdiff_t)wdt_number_bytes(half);
        load_inputs(x + begin, R, n_in, from, half, n, n_out, &block);
        if (R == 1 && half) {
            multiply_block(&block, from, 1, n_out, 1, add, y);
        } else if (R == 1) {
            multiply_block(&block, from, 0, n_out, 1, add, y);
        } else {
            multiply_block(&block, from, half, n_out, MAX_ROWS, add, y);
        }
    }
}

void wdt_integer_product(const float *x, int32_t n, const void *W, int dtype, int32_t n_in, int32_t n_out, int add, float *y)
{
    if (dtype == WDT_INT8) {
        wdt_integer_int8(x, n, W, 0, n_in, n_out, add, y);
        return;
    }
    for (int32_t r = 0, R; r < n; r += R, x += R * n_in, y += R * n_out) {
        R = n - r >= MAX_ROWS ? MAX_ROWS : 1;
        multiply(x, R, W, dtype, n_in, n_out, add, y);
    }
}

/* y [R, n_out] = W [n_out, n] times R rows of x, or y + that; rows of W lie n_in apart, and each of x has one exponent.
 * mantissas [n, R] are below 2^(30 - drop), so that n of their products with weights' sum to less than 2^31. */
INLINE void multiply_rows(const int32_t *mantissas, const int32_t *E, const char *W, int half, int n, ptrdiff_t n_in,
                          int32_t n_out, int R, int add, float *y)
{
    for (int32_t j = 0; j < n_out; j++, W += n_in * (ptrdiff_t)wdt_number_bytes(half)) {
        const int32_t row = wdt_integer_exponent(W, half, n);
        int32_t sums[MAX_ROWS] = {0};
        UNROLL
        for (int r = 0; r < R; r++) {
            sums[r] = n / 2; /* each product is rounded down, by half on average */
        }
        for (int i = 0; i < n; i++) {
            const int32_t weight = wdt_block_mantissa(W, half, i, row);
            UNROLL
            for (int r = 0; r < R; r++) {
                sums[r] += wdt_multiply_high(mantissas[i * R + r], weight);
            }
        }
        for (int r = 0; r < R; r++) {
            const float sum = wdt_block_float(sums[r], E[r] + row + 32 - 2 * WDT_BLOCK_BIAS);
            y[r * n_out + j] = add ? y[r * n_out + j] + sum : sum;
        }
    }
}

static void multiply_transposed(const float *x, int R, const void *W, int half, int32_t n_in, int32_t n_out, int add,
                                float *y)
{
    int32_t mantissas[INPUTS * MAX_ROWS], E[MAX_ROWS];
    for (int32_t begin = 0; begin < n_in; begin += INPUTS, add = 1) {
        const int n = n_in - begin < INPUTS ? n_in - begin : INPUTS;
        const char *const from = (const char *)W + (ptrdiff_t)begin * (ptrdiff_t)wdt_number_bytes(half);
        int32_t drop = 0;
        while (n > 8 << drop) {
            drop++;
        }
        for (int r = 0; r < R; r++) {
            const float *const row = x + (ptrdiff_t)r * n_in + begin;
            E[r] = wdt_integer_exponent(row, 0, n) + drop;
            for (int i = 0; i < n; i++) {
                mantissas[i * R + r] = wdt_block_mantissa(row, 0, i, E[r] - drop) >> drop;
            }
        }
        if (R == 1) {
            multiply_rows(mantissas, E, from, half, n, n_in, n_out, 1, add, y);
        } else if (half) {
            multiply_rows(mantissas, E, from, 1, n, n_in, n_out, MAX_ROWS, add, y);
        } else {
            multiply_rows(mantissas, E, from, 0, n, n_in, n_out, MAX_ROWS, add, y);
        }
    }
}

void wdt_integer_product_transposed(const float *x, int32_t n, const void *W, int dtype, int32_t n_in, int32_t n_out, int add,
                               float *y)
{
    if (dtype == WDT_INT8) {
        wdt_integer_int8(x, n, W, 1, n_in, n_out, add, y);
        return;
    }
    for (int32_t r = 0, R; r < n; r += R, x += R * n_in, y += R * n_out) {
        R = n - r >= MAX_ROWS ? MAX_ROWS : 1;
        multiply_transposed(x, R, W, dtype, n_in, n_out, add, y);
    }
}
