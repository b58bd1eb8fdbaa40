/* The integer kernels' products with int8 weights: a load, an integer product and a sum for each weight.
 *
 * x comes as integers with one exponent a block (block.h), W as it is, and a block's sums become floats together with W's
 * scale. No sum can overflow: |x| of a block sum to less than 2^24, and a number of W is within +-2^7.
 *
 * Error, beside the rounding of results to float: 2^-24 of the sum over a block of inputs of |x| times 128 scales, for
 * each input. */
#include "block.h"
#include "inline.h"
#include "integer.h"
#include "weights.h"

enum {
    MAX_ROWS = 4, /* of x at once */
    OUTPUTS = 8,  /* in registers over a block of inputs */
    INPUTS = 64,  /* in a block */
};

/* A block of inputs of R rows of x. */
typedef struct inputs {
    int n;
    int32_t scale;                      /* mantissa of W's scale, in [2^30, 2^31) or 0 */
    int32_t exponent[MAX_ROWS];         /* of the upper half of a sum times the scale */
    int32_t factors[INPUTS * MAX_ROWS]; /* [n, R] */
} inputs;

/* factors [n], R apart, of x [n]: rounded mantissas whose |sum| is below 2^24 and, but for zeros, hardly below 2^23.
 * Returns their exponent, in mantissas of 1. */
static int32_t load_row(const float *x, int n, int R, int32_t *factors)
{
    const int32_t E = wdt_integer_exponent(x, 0, n);
    int32_t drop = 6;
    uint32_t sum = 0; /* after 6 bits have been dropped, each number rounded up; n <= INPUTS of 2^24 fit */
    for (int i = 0; i < n; i++) {
        const int32_t mantissa = wdt_block_mantissa(x, 0, i, E);
        factors[i * R] = mantissa;
        sum += 1 + ((uint32_t)(mantissa < 0 ? -mantissa : mantissa) >> 6);
    }
    for (; sum >= (1u << 24) - INPUTS; sum >>= 1) { /* half of INPUTS is the most that rounding to nearest adds */
        drop++;
    }
    for (int i = 0; i < n; i++) {
        factors[i * R] = (factors[i * R] + (1 << (drop - 1))) >> drop;
    }
    return E + drop - WDT_BLOCK_BIAS;
}

/* x [R, n] of rows that lie n_in apart. */
static void load_inputs(const float *x, int R, ptrdiff_t n_in, float scale, int n, inputs *block)
{
    const uint32_t bits = wdt_float_bits(scale); /* not negative; one below 2^-126 is zero */
    const int32_t exponent = (int32_t)(bits << 1 >> 24);
    block->n = n;
    block->scale = exponent ? (int32_t)((bits & 0x7FFFFFu) << 7 | 1u << 30) : 0;
    for (int r = 0; r < R; r++) {
        block->exponent[r] = load_row(x + r * n_in, n, R, block->factors + r) + exponent - 127 - 30 + 32;
    }
}

/* y [R, N] of rows n_out apart = the block's sums [R, N] as floats, or y + that. */
NOT_INLINED static void store(const inputs *block, const int32_t *sums, int R, int N, ptrdiff_t n_out, int add, float *y)
{
    for (int r = 0; r < R; r++, sums += N, y += n_out) {
        for (int j = 0; j < N; j++) {
            const float product = wdt_block_float(wdt_multiply_high(sums[j], block->scale), block->exponent[r]);
            y[j] = add ? y[j] + product : product;
        }
    }
}

/* y [R, N] of rows n_out apart = the block times N columns of W, whose rows lie n_out apart; or y + that. */
INLINE void multiply_outputs(const inputs *block, const int8_t *W, ptrdiff_t n_out, int R, int N, int add, float *y)
{
    const int32_t *factors = block->factors, *const end = factors + block->n * R;
    int32_t sums[OUTPUTS] = {0};
    for (; factors != end; factors += R, W += n_out) {
        UNROLL
        for (int j = 0; j < N; j++) {
            const int32_t weight = W[j];
            UNROLL
            for (int r = 0; r < R; r++) {
                sums[r * N + j] += factors[r] * weight;
            }
        }
    }
    store(block, sums, R, N, n_out, add, y);
}

INLINE void multiply(const inputs *block, const int8_t *W, ptrdiff_t n_out, int R, int add, float *y)
{
    ptrdiff_t j = 0;
    for (; j + OUTPUTS / R <= n_out; j += OUTPUTS / R) {
        multiply_outputs(block, W + j, n_out, R, OUTPUTS / R, add, y + j);
    }
    for (; j < n_out; j++) {
        multiply_outputs(block, W + j, n_out, R, 1, add, y + j);
    }
}

/* y [R, n_out] = the block times the rows of W, which lie n_in apart; or y + that. */
INLINE void multiply_rows(const inputs *block, const int8_t *W, ptrdiff_t n_in, ptrdiff_t n_out, int R, int add, float *y)
{
    for (ptrdiff_t j = 0; j < n_out; j++, W += n_in) {
        int32_t sums[MAX_ROWS] = {0};
        for (int i = 0; i < block->n; i++) {
            UNROLL
            for (int r = 0; r < R; r++) {
                sums[r] += block->factors[i * R + r] * W[i];
            }
        }
        store(block, sums, R, 1, n_out, add, y + j);
    }
}

/* Either product, of MAX_ROWS rows of x or of one, a block of inputs at a time. */
static void multiply_blocks(const float *x, int R, const void *W, int transposed, int32_t n_in, int32_t n_out, int add,
                            float *y)
{
    inputs block;
    const int8_t *const numbers = wdt_tensor_numbers(W, WDT_INT8);
    for (int32_t begin = 0; begin < n_in; begin += INPUTS, add = 1) {
        const int8_t *const from = numbers + (transposed ? begin : (ptrdiff_t)begin * n_out);
        load_inputs(x + begin, R, n_in, wdt_tensor_scale(W, WDT_INT8), n_in - begin < INPUTS ? n_in - begin : INPUTS,
                    &block);
        if (transposed && R == 1) {
            multiply_rows(&block, from, n_in, n_out, 1, add, y);
        } else if (transposed) {
            multiply_rows(&block, from, n_in, n_out, MAX_ROWS, add, y);
        } else if (R == 1) {
            multiply(&block, from, n_out, 1, add, y);
        } else {
            multiply(&block, from, n_out, MAX_ROWS, add, y);
        }
    }
}

void wdt_integer_int8(const float *x, int32_t n, const void *W, int transposed, int32_t n_in, int32_t n_out, int add,
                      float *y)
{
    for (int32_t r = 0, R; r < n; r += R, x += R * n_in, y += R * n_out) {
        R = n - r >= MAX_ROWS ? MAX_ROWS : 1;
        multiply_blocks(x, R, W, transposed, n_in, n_out, add, y);
    }
}
