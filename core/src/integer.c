/* The integer kernels: for a chip without a float unit. Queries, rows and weights become integers with one exponent a
 * row (block.h) as they are loaded; sums of products, the softmax and its exp are integers, and only results are floats
 * again.
 *
 * The steps are those of attend.c, a CHUNK of rows at a time, each row converted once for up to four query heads:
 *
 *   score    mantissas of queries, with log2(e) / sqrt(D) in them, times those of keys
 *   weigh    2^(score - largest); a weight is a mantissa and an exponent of its own
 *   add      weights, with the exponents of values folded in, times mantissas of values; the chunk's sum becomes a float
 *
 * Errors, beside the rounding of results to float:
 *   score    2^-24 absolute, or 2^-30 of the largest that a score of these queries and keys could be; and for each
 *            dimension 2^-26 of the query's largest number times the key's
 *   weight   2^-28 relative, by the power of two
 *   out      2^-29 of the sum of weights times each row's largest number, for each row; float rounding where there is
 *            more than one chunk
 *   product  2^-29 of the sum over a block of inputs of |x| times its row's largest weight, for each input
 *            with the transpose: 2^-23 of x's largest number times the row's largest weight, for each input
 *            with int8 weights, see integer_int8.c
 * All are of a row's largest number: of numbers in one row that differ by more than 2^30, the small ones are lost. Rows
 * do not disturb each other. A score has no limit: the scale of scores follows the largest exponents. */
#include <math.h>

#include "block.h"
#include "gradient.h"
#include "integer_int8.h"
#include "kernels.h"
#include "positions.h"
#include "unusable.h"
#include "wdt_rvne.h"

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#define NOT_INLINED __attribute__((noinline))
#define UNROLL _Pragma("GCC unroll 8")
#else
#define INLINE static inline
#define NOT_INLINED
#define UNROLL
#endif

enum {
    CHUNK = 44,        /* rows at once: all, or nearly all, of a position's of the default head */
    MAX_HEADS = 4,     /* heads at once */
    SEGMENT = 16,      /* dimensions of a score that are summed without a shift */
    SCORE_BITS = 24,   /* behind the point of a score, of powers of two, unless it is too large for that */
    OUTPUTS = 8,       /* of a product, in registers over a block of inputs */
    INPUTS = 64,       /* in a block */
};

typedef struct chunk {
    int n, halves; /* rows, of which the first `halves` are float16 */
    const void *keys[CHUNK], *values[CHUNK];
    int16_t key_exponents[CHUNK], value_exponents[CHUNK];
    int32_t weights[CHUNK * MAX_HEADS]; /* [n, H]: scores, then mantissas of weights, 29 bits behind the point */
    uint8_t drops[CHUNK * MAX_HEADS];   /* [n, H]: a weight is its mantissa * 2^-drop */
} chunk;

/* One position's heads. A score is an integer times 2^scale. */
typedef struct position {
    const float *q; /* [H, D] */
    float *out;     /* [H, D] */
    ptrdiff_t D;
    int H, chunks;
    float factor; /* log2(e) / sqrt(D) */
    int32_t largest[MAX_HEADS], scale[MAX_HEADS];
    float rescale[MAX_HEADS], total[MAX_HEADS];
    chunk chunk;
} position;

NOT_INLINED int32_t wdt_integer_exponent(const void *row, int half, ptrdiff_t n)
{
    return wdt_block_exponent(row, half, n);
}

/* ------------------------------------------------------------------------------------------------------- scores */

/* queries [n, H] = mantissas of dimensions d .. d + n - 1 times the factor: below 2^28, and so a SEGMENT's sum of their
 * products with mantissas of a key is below 2^30. */
static void load_queries(const position *at, ptrdiff_t d, ptrdiff_t n, const int32_t *exponents, int32_t *queries)
{
    const int32_t factor = (int32_t)((wdt_float_bits(at->factor) & 0x7FFFFFu) << 7 | 1u << 30);
    for (int h = 0; h < at->H; h++) {
        for (ptrdiff_t k = 0; k < n; k++) {
            const int32_t mantissa = wdt_block_mantissa(at->q + h * at->D, 0, d + k, exponents[h]);
            queries[k * at->H + h] = (wdt_multiply_high(mantissa, factor) + 1) >> 1;
        }
    }
}

/* score [H] += a segment of the queries times one of a key, shifted to its head's scale; = where d is 0. */
INLINE void add_score(const void *key, int half, ptrdiff_t d, ptrdiff_t n, int32_t E, int H, const int32_t *queries,
                      const int32_t *shifts, int32_t *score)
{
    int32_t sums[MAX_HEADS] = {0};
    UNROLL
    for (int h = 0; h < H; h++) {
        sums[h] = (int32_t)(n / 2); /* each product is rounded down, by half on average */
    }
    for (ptrdiff_t k = 0; k < n; k++, queries += H) {
        const int32_t mantissa = wdt_block_mantissa(key, half, d + k, E);
        UNROLL
        for (int h = 0; h < H; h++) {
            sums[h] += wdt_multiply_high(mantissa, queries[h]);
        }
    }
    UNROLL
    for (int h = 0; h < H; h++) {
        const uint32_t shift = (uint32_t)(shifts[h] - E);
        const int32_t sum = shift == 0 ? sums[h] : shift < 32 ? (sums[h] + (int32_t)(1u << (shift - 1))) >> shift : 0;
        score[h] = d == 0 ? sum : score[h] + sum;
    }
}

/* The scale of each head's scores: fine enough, and coarse enough that none reaches 2^31. Never finer than before.
 * shifts [H]: what a segment's sum with a key of exponent 0 is shifted by. */
static void choose_scales(position *at, const int32_t *exponents, int32_t *shifts)
{
    const chunk *const chunk = &at->chunk;
    int32_t key = 0, segments = 0;
    for (int c = 0; c < chunk->n; c++) {
        key = chunk->key_exponents[c] > key ? chunk->key_exponents[c] : key;
    }
    while ((ptrdiff_t)SEGMENT << segments < at->D) {
        segments++;
    }
    for (int h = 0; h < at->H; h++) {
        /* A sum's unit: mantissas of queries are (mantissa * factor) >> 33, and 2^32 is shifted out of the products. */
        const int32_t factor = (int32_t)(wdt_float_bits(at->factor) >> 23) - 127 - 30;
        const int32_t unit = exponents[h] - WDT_BLOCK_BIAS + factor + 33 - WDT_BLOCK_BIAS + 32;
        const int32_t before = at->scale[h], needed = unit + key + segments;
        at->scale[h] = needed > before ? needed : before;
        const int32_t coarser = at->scale[h] - before;
        at->largest[h] >>= coarser < 31 ? coarser : 31;
        shifts[h] = at->scale[h] - unit;
    }
}

static void score(position *at)
{
    chunk *const chunk = &at->chunk;
    const int H = at->H;
    int32_t exponents[MAX_HEADS], shifts[MAX_HEADS], queries[SEGMENT * MAX_HEADS];
    for (int h = 0; h < H; h++) {
        exponents[h] = wdt_integer_exponent(at->q + h * at->D, 0, at->D);
    }
    choose_scales(at, exponents, shifts);
    for (ptrdiff_t d = 0; d < at->D; d += SEGMENT) {
        const ptrdiff_t n = at->D - d < SEGMENT ? at->D - d : SEGMENT;
        load_queries(at, d, n, exponents, queries);
        for (int c = 0; c < chunk->n; c++) {
            const int32_t E = chunk->key_exponents[c];
            int32_t *const to = chunk->weights + c * H;
            const int half = c < chunk->halves;
            if (H == MAX_HEADS && half) {
                add_score(chunk->keys[c], 1, d, n, E, MAX_HEADS, queries, shifts, to);
            } else if (H == MAX_HEADS) {
                add_score(chunk->keys[c], 0, d, n, E, MAX_HEADS, queries, shifts, to);
            } else {
                add_score(chunk->keys[c], half, d, n, E, H, queries, shifts, to);
            }
        }
    }
}

/* ------------------------------------------------------------------------------------------------------ weights */

/* 2^(-distance), of a distance at least 0 in units of 2^scale. */
static int32_t weight_at(uint32_t distance, int32_t scale, int32_t *drop)
{
    const uint32_t finer = (uint32_t)(scale + SCORE_BITS);
    const int far = finer >= 32 ? distance != 0 : distance > UINT32_MAX >> finer;
    return wdt_power_of_two(far ? UINT32_MAX : finer < 32 ? distance << finer : 0, drop);
}

/* scores -> weights of head h, and its total of all chunks. */
static void weigh(position *at, int h)
{
    chunk *const chunk = &at->chunk;
    const int H = at->H, n = chunk->n * H;
    const int32_t before = at->largest[h];
    int32_t largest = at->chunks ? before : chunk->weights[h], drop;
    uint64_t sum = 0;
    for (int s = h; s < n; s += H) {
        largest = chunk->weights[s] > largest ? chunk->weights[s] : largest;
    }
    for (int s = h; s < n; s += H) {
        const int32_t weight = weight_at((uint32_t)largest - (uint32_t)chunk->weights[s], at->scale[h], &drop);
        chunk->weights[s] = weight;
        chunk->drops[s] = (uint8_t)drop;
        sum += (uint32_t)weight >> (drop < 32 ? drop : 31);
    }
    at->largest[h] = largest;
    const float total = wdt_block_float((int32_t)(sum >> 5), 5 - 29); /* at most CHUNK * 2^30 >> 5 */
    if (at->chunks) {
        const int32_t rescale = weight_at((uint32_t)largest - (uint32_t)before, at->scale[h], &drop);
        at->rescale[h] = wdt_block_float(rescale, -29 - drop);
        at->total[h] = at->total[h] * at->rescale[h] + total;
    } else {
        at->total[h] = total;
    }
}

/* ------------------------------------------------------------------------------------------------------- values */

/* Dimensions d .. d + N - 1 of H heads: sums [H, N] of weights times values of rows first .. last - 1. */
INLINE void add_values(const chunk *chunk, int first, int last, int half, ptrdiff_t d, int N, int H, int32_t *sums)
{
    for (int c = first; c < last; c++) {
        int32_t values[2];
        UNROLL
        for (int k = 0; k < N; k++) {
            values[k] = wdt_block_mantissa(chunk->values[c], half, d + k, chunk->value_exponents[c]);
        }
        UNROLL
        for (int h = 0; h < H; h++) {
            UNROLL
            for (int k = 0; k < N; k++) {
                sums[h * N + k] += wdt_multiply_high(chunk->weights[c * H + h], values[k]);
            }
        }
    }
}

INLINE void add_dimensions(position *at, const int32_t *exponents, ptrdiff_t d, int N, int H)
{
    const chunk *const chunk = &at->chunk;
    int32_t sums[MAX_HEADS * 2] = {0};
    add_values(chunk, 0, chunk->halves, 1, d, N, H, sums);
    add_values(chunk, chunk->halves, chunk->n, 0, d, N, H, sums);
    for (int h = 0; h < H; h++) {
        for (int k = 0; k < N; k++) {
            float *const out = at->out + h * at->D + d + k;
            const float sum = wdt_block_float(sums[h * N + k], exponents[h]);
            *out = at->chunks ? *out * at->rescale[h] + sum : sum;
        }
    }
}

/* The usual case has its own code; fewer heads, and the last of an odd number of dimensions, share one that is small. */
static void add_pair(position *at, const int32_t *exponents, ptrdiff_t d)
{
    add_dimensions(at, exponents, d, 2, MAX_HEADS);
}

static void add_few(position *at, const int32_t *exponents, ptrdiff_t d, int N)
{
    add_dimensions(at, exponents, d, N, at->H);
}

static void add(position *at)
{
    chunk *const chunk = &at->chunk;
    const int H = at->H;
    int32_t exponents[MAX_HEADS];
    int16_t folded[CHUNK];
    for (int h = 0; h < H; h++) {
        for (int c = 0; c < chunk->n; c++) {
            folded[c] = (int16_t)(chunk->value_exponents[c] - chunk->drops[c * H + h]);
        }
        /* 32 bits were shifted out of the products of weights, with 29 bits behind the point, and values. */
        int32_t *const weights = chunk->weights + h;
        exponents[h] = wdt_block_align(weights, folded, chunk->n, H, weights) + 32 - 29 - WDT_BLOCK_BIAS;
    }
    for (ptrdiff_t d = 0; d < at->D; d += 2) {
        if (H == MAX_HEADS && d + 2 <= at->D) {
            add_pair(at, exponents, d);
        } else {
            add_few(at, exponents, d, d + 2 <= at->D ? 2 : 1);
        }
    }
}

/* ---------------------------------------------------------------------------------------------------- attention */

/* Works off the rows that have been collected. */
static void flush(position *at)
{
    if (at->chunk.n) {
        score(at);
        for (int h = 0; h < at->H; h++) {
            weigh(at, h);
        }
        add(at);
        at->chunks++;
        at->chunk.n = at->chunk.halves = 0;
    }
}

static void collect(position *at, const wdt_rows *rows, ptrdiff_t j)
{
    chunk *const chunk = &at->chunk;
    if (chunk->n == CHUNK) {
        flush(at);
    }
    const ptrdiff_t bytes = j * rows->stride * (ptrdiff_t)wdt_number_bytes(rows->half);
    const char *const key = (const char *)rows->keys + bytes, *const value = (const char *)rows->values + bytes;
    const int c = chunk->n++;
    chunk->halves += rows->half != 0; /* tokens come before landmarks, which are float32 */
    chunk->keys[c] = key;
    chunk->values[c] = value;
    chunk->key_exponents[c] = chunk->value_exponents[c] = (int16_t)wdt_integer_exponent(key, rows->half, at->D);
    if (value != key) {
        chunk->value_exponents[c] = (int16_t)wdt_integer_exponent(value, rows->half, at->D);
    }
}

static void collect_all(position *at, const wdt_rows *rows, const wdt_candidates *candidates)
{
    for (ptrdiff_t j = candidates->begin; j < candidates->end; j++) {
        collect(at, rows, j);
    }
    for (int s = 0; s < candidates->n_singles; s++) {
        collect(at, rows, candidates->singles[s]);
    }
}

static void attend_heads(const float *q, int H, ptrdiff_t D, const wdt_rows *token_rows, const wdt_candidates *tokens,
                         const wdt_rows *landmark_rows, const wdt_candidates *landmarks, float *out, float *log_sum)
{
    static const float log2_e = 0x1.715476p+0f, ln_2 = 0x1.62e430p-1f;
    position at;
    at.q = q, at.out = out, at.D = D, at.H = H, at.chunks = 0;
    at.factor = log2_e / sqrtf((float)D);
    at.chunk.n = at.chunk.halves = 0;
    for (int h = 0; h < H; h++) {
        at.scale[h] = -SCORE_BITS;
        at.largest[h] = 0;
    }
    collect_all(&at, token_rows, tokens);
    collect_all(&at, landmark_rows, landmarks);
    flush(&at);
    for (int h = 0; h < H; h++) {
        const float inverse = 1.0f / at.total[h]; /* one candidate has weight 1, so the total is at least that */
        for (ptrdiff_t d = 0; d < D; d++) {
            out[h * D + d] *= inverse;
        }
        if (log_sum) {
            log_sum[h] = wdt_block_float(at.largest[h], at.scale[h]) * ln_2 + logf(at.total[h]);
        }
    }
}

static void attend_group(const float *q, int heads, int D, const wdt_rows *token_rows, const wdt_candidates *tokens,
                         const wdt_rows *landmark_rows, const wdt_candidates *landmarks, float *out, float *log_sum)
{
    for (int h = 0, H; h < heads; h += H) {
        const ptrdiff_t at = (ptrdiff_t)h * D;
        H = heads - h < MAX_HEADS ? heads - h : MAX_HEADS;
        attend_heads(q + at, H, D, token_rows, tokens, landmark_rows, landmarks, out + at,
                     log_sum ? log_sum + h : NULL);
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

/* ----------------------------------------------------------------------------------------------------- products */

/* A block of inputs of up to MAX_HEADS rows of x, with what the product needs of their rows of weights. */
typedef struct inputs {
    int n;
    int32_t factors[INPUTS * MAX_HEADS]; /* [n, R]: x, with the exponents of W's rows folded in */
    int32_t exponent[MAX_HEADS];         /* of the sums */
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
        block->exponent[r] = wdt_block_align(block->factors + r, folded, n, R, block->factors + r) + 32 -
                             2 * WDT_BLOCK_BIAS;
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
            multiply_block(&block, from, half, n_out, MAX_HEADS, add, y);
        }
    }
}

static void product(const float *x, int32_t n, const void *W, int dtype, int32_t n_in, int32_t n_out, int add, float *y)
{
    if (dtype == WDT_INT8) {
        wdt_integer_int8(x, n, W, 0, n_in, n_out, add, y);
        return;
    }
    for (int32_t r = 0, R; r < n; r += R, x += R * n_in, y += R * n_out) {
        R = n - r >= MAX_HEADS ? MAX_HEADS : 1;
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
        int32_t sums[MAX_HEADS] = {0};
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
    int32_t mantissas[INPUTS * MAX_HEADS], E[MAX_HEADS];
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
            multiply_rows(mantissas, E, from, 1, n, n_in, n_out, MAX_HEADS, add, y);
        } else {
            multiply_rows(mantissas, E, from, 0, n, n_in, n_out, MAX_HEADS, add, y);
        }
    }
}

static void product_transposed(const float *x, int32_t n, const void *W, int dtype, int32_t n_in, int32_t n_out, int add,
                               float *y)
{
    if (dtype == WDT_INT8) {
        wdt_integer_int8(x, n, W, 1, n_in, n_out, add, y);
        return;
    }
    for (int32_t r = 0, R; r < n; r += R, x += R * n_in, y += R * n_out) {
        R = n - r >= MAX_HEADS ? MAX_HEADS : 1;
        multiply_transposed(x, R, W, dtype, n_in, n_out, add, y);
    }
}

const wdt_kernels wdt_kernels_integer = {
    .name = "integer",
    .attend = attend,
    .product = product,
    .product_transposed = product_transposed,
    .to_half = wdt_to_half,
    .first_unusable = wdt_find_unusable,
};

const wdt_window_kernels wdt_window_kernels_integer = {
    .prepared_bytes = wdt_positions_prepared_bytes,
    .scratch_bytes = wdt_positions_scratch_bytes,
    .prepare = wdt_positions_prepare,
    .attend = attend_window,
    .backward_bytes = wdt_gradient_bytes,
    .backward = wdt_gradient,
    .multiply_add = wdt_multiply_add_plainly,
};
