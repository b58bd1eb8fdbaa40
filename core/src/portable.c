/* The portable kernels: plain C for a chip with a float unit and no vectors, such as a microcontroller's.
 *
 * The steps are those of attend.c. What differs is how often a number is loaded: a key is multiplied with up to four
 * heads' queries and a value with up to four heads' weights, in tiles whose sums stay in registers (32 float registers
 * hold a tile of 4 x 4 with its operands). Rows come CHUNK at a time, so that the scores of any number of candidates
 * need little stack:
 *
 *   score    tiles of 4 rows x H heads over all dimensions; the largest of each head
 *   weigh    exp and sum, head by head; earlier sums are rescaled, as in a running softmax
 *   add      tiles of H heads x 4 dimensions over all rows of the chunk, then single dimensions
 *
 * `half`, `dtype`, H and the other sizes of a tile are constants once inlined. float16 and int8 numbers become float32
 * as they are loaded.
 * Results differ from the scalar kernels' by rounding alone: another order of sums, fused multiply-add where there is
 * one, and wdt_exp() in place of expf(). */
#include <math.h>

#include "exponential.h"
#include "gradient.h"
#include "inline.h"
#include "kernels.h"
#include "positions.h"
#include "unusable.h"
#include "weights.h"

enum {
    CHUNK = 48,    /* rows at once: all of a position's of the default head, and few enough for a small stack */
    MAX_HEADS = 4, /* heads at once: 1, 2 or 4 */
    TILE = 4,      /* rows, or dimensions, of a tile */
    OUTPUTS = 16,  /* of a product, in registers over all inputs */
};

typedef struct chunk {
    int rows, half;
    int n; /* with padding, a multiple of TILE: the last row again, of weight 0 */
    const void *keys[CHUNK], *values[CHUNK];
    float weights[CHUNK * MAX_HEADS]; /* [n, H]: scores, then weights */
} chunk;

typedef struct running {
    float largest[MAX_HEADS]; /* score so far */
    float base[MAX_HEADS];    /* the largest score of earlier chunks, that their weights are relative to */
    float total[MAX_HEADS];   /* sum of weights */
    float rescale[MAX_HEADS]; /* what the newest chunk does to earlier sums */
    int chunks;               /* so far: `out` holds nothing before the first */
} running;

/* An int8 number comes without its tensor's scale. A float16 one goes by bits, as wdt_half_to_float() has it, but in
 * five instructions: with its exponent's bias still that of a half, subnormals among them, and then 2^112 times that,
 * which is exact. No infinity, no NaN: neither is ever in a cache or a model. */
INLINE float number(const void *numbers, int dtype, ptrdiff_t at)
{
    if (dtype == WDT_INT8) {
        return (float)((const int8_t *)numbers)[at];
    }
    if (dtype == WDT_FLOAT16) {
        const int32_t extended = ((const int16_t *)numbers)[at];
        return wdt_bits_float((uint32_t)extended << 13 & 0x8FFFFFFFu) * 0x1p112f;
    }
    return ((const float *)numbers)[at];
}

/* sums [TILE, H] += keys x queries over dimensions d .. d + N - 1 */
INLINE void multiply_keys(const void *const *keys, const float *const *q, int dtype, int H, int N, ptrdiff_t d,
                          float *sums)
{
    UNROLL
    for (int k = 0; k < N; k++) {
        float query[MAX_HEADS];
        UNROLL
        for (int h = 0; h < H; h++) {
            query[h] = q[h][d + k];
        }
        UNROLL
        for (int r = 0; r < TILE; r++) {
            const float key = number(keys[r], dtype, d + k);
            UNROLL
            for (int h = 0; h < H; h++) {
                sums[r * H + h] = wdt_fma(key, query[h], sums[r * H + h]);
            }
        }
    }
}

INLINE float larger(float a, float b)
{
    return a > b ? a : b; /* fmaxf would be a call */
}

/* sums [TILE, H] = rows [TILE, D] x q [H, D] */
INLINE void multiply_tile(const void *const *rows, const float *q, ptrdiff_t D, int dtype, int H, float *sums)
{
    const void *keys[TILE];
    const float *queries[MAX_HEADS];
    UNROLL
    for (int r = 0; r < TILE; r++) {
        keys[r] = rows[r];
    }
    UNROLL
    for (int h = 0; h < H; h++) {
        queries[h] = q + h * D;
    }
    UNROLL
    for (int s = 0; s < TILE * H; s++) {
        sums[s] = 0.0f;
    }
    ptrdiff_t d = 0;
    for (; d + 4 <= D; d += 4) {
        multiply_keys(keys, queries, dtype, H, 4, d, sums);
    }
    for (; d < D; d++) {
        multiply_keys(keys, queries, dtype, H, 1, d, sums);
    }
}

/* scores [TILE, H] of as many rows, and the largest [H] so far */
INLINE void score_tile(const void *const *rows, const float *q, float scale, ptrdiff_t D, int half, int H,
                       float *largest, float *scores)
{
    float sums[TILE * MAX_HEADS];
    multiply_tile(rows, q, D, half, H, sums);
    UNROLL
    for (int s = 0; s < TILE * H; s++) {
        scores[s] = sums[s] = sums[s] * scale;
    }
    UNROLL
    for (int h = 0; h < H; h++) {
        float most = largest[h];
        UNROLL
        for (int r = 0; r < TILE; r++) {
            most = larger(most, sums[r * H + h]);
        }
        largest[h] = most;
    }
}

INLINE void score(chunk *chunk, const float *q, float scale, ptrdiff_t D, int half, int H, running *softmax)
{
    for (int c = 0; c < chunk->n; c += TILE) {
        score_tile(chunk->keys + c, q, scale, D, half, H, softmax->largest, chunk->weights + c * H);
    }
}

/* scores -> weights exp(score - largest), in place, and 0 for padding; head h's are H apart. */
static void weigh(chunk *chunk, int H, running *softmax)
{
    for (int s = chunk->rows * H; s < chunk->n * H; s++) {
        chunk->weights[s] = 0.0f;
    }
    for (int h = 0; h < H; h++) {
        float *const end = chunk->weights + chunk->rows * H + h;
        const float largest = softmax->largest[h];
        float sum = 0.0f;
        for (float *score = chunk->weights + h; score != end; score += H) {
            *score = wdt_exp(*score - largest);
            sum += *score;
        }
        softmax->rescale[h] = wdt_exp(softmax->base[h] - largest); /* 0 for the first chunk: exp(-inf) */
        softmax->base[h] = largest;
        softmax->total[h] = wdt_fma(softmax->total[h], softmax->rescale[h], sum);
    }
}

/* sums [H, N] += weights [H] x dimensions d .. d + N - 1 of a row of values */
INLINE void add_row(const void *row, const float *weights, ptrdiff_t d, int half, int H, int N, float *sums)
{
    const void *from = (const char *)row + d * (ptrdiff_t)wdt_number_bytes(half);
    KEEP(from);
    float values[TILE];
    UNROLL
    for (int k = 0; k < N; k++) {
        values[k] = number(from, half, k);
    }
    UNROLL
    for (int h = 0; h < H; h++) {
        UNROLL
        for (int k = 0; k < N; k++) {
            sums[h * N + k] = wdt_fma(weights[h], values[k], sums[h * N + k]);
        }
    }
}

/* Dimensions d .. d + N - 1 of H heads: out = out * rescale + sum over rows of weight * value. */
INLINE void add_tile(const chunk *chunk, const running *softmax, ptrdiff_t d, ptrdiff_t D, int half, int H, int N,
                     float *out)
{
    float sums[MAX_HEADS * TILE];
    UNROLL
    for (int s = 0; s < H * N; s++) {
        sums[s] = 0.0f;
    }
    if (softmax->chunks) {
        UNROLL
        for (int s = 0; s < H * N; s++) {
            sums[s] = out[s / N * D + d + s % N] * softmax->rescale[s / N];
        }
    }
    const float *weights = chunk->weights;
    for (int c = 0; c < chunk->n; c += 2, weights += 2 * H) {
        add_row(chunk->values[c], weights, d, half, H, N, sums);
        add_row(chunk->values[c + 1], weights + H, d, half, H, N, sums);
    }
    UNROLL
    for (int s = 0; s < H * N; s++) {
        out[s / N * D + d + s % N] = sums[s];
    }
}

INLINE void add(const chunk *chunk, const running *softmax, ptrdiff_t D, int half, int H, float *out)
{
    ptrdiff_t d = 0;
    for (; d + TILE <= D; d += TILE) {
        add_tile(chunk, softmax, d, D, half, H, TILE, out);
    }
    for (; d < D; d++) {
        add_tile(chunk, softmax, d, D, half, H, 1, out);
    }
}

INLINE void attend_chunk(chunk *chunk, const float *q, float scale, ptrdiff_t D, int half, int H, running *softmax,
                         float *out)
{
    score(chunk, q, scale, D, half, H, softmax);
    weigh(chunk, H, softmax);
    add(chunk, softmax, D, half, H, out);
}

/* A function for each number of heads and dtype. */
#define ATTEND_CHUNK(name, half, H)                                                                            \
    static void name(chunk *chunk, const float *q, float scale, ptrdiff_t D, running *softmax, float *out)     \
    {                                                                                                          \
        attend_chunk(chunk, q, scale, D, half, H, softmax, out);                                               \
    }
ATTEND_CHUNK(attend_1, 0, 1)
ATTEND_CHUNK(attend_2, 0, 2)
ATTEND_CHUNK(attend_4, 0, 4)
ATTEND_CHUNK(attend_half_1, 1, 1)
ATTEND_CHUNK(attend_half_2, 1, 2)
ATTEND_CHUNK(attend_half_4, 1, 4)

typedef void attend_function(chunk *chunk, const float *q, float scale, ptrdiff_t D, running *softmax, float *out);

/* One position's heads, and what is common to them. */
typedef struct position {
    const float *q; /* [H, D] */
    float *out;     /* [H, D] */
    float scale;
    ptrdiff_t D;
    int H;
    running softmax;
    chunk chunk;
} position;

/* Works off the rows that have been collected. */
static void flush(position *at)
{
    static attend_function *const functions[2][3] = {
        {attend_1, attend_2, attend_4},
        {attend_half_1, attend_half_2, attend_half_4},
    };
    chunk *const chunk = &at->chunk;
    if (chunk->rows == 0) {
        return;
    }
    for (chunk->n = chunk->rows; chunk->n % TILE; chunk->n++) {
        chunk->keys[chunk->n] = chunk->keys[chunk->rows - 1];
        chunk->values[chunk->n] = chunk->values[chunk->rows - 1];
    }
    functions[chunk->half][at->H / 2](chunk, at->q, at->scale, at->D, &at->softmax, at->out);
    at->softmax.chunks++;
    chunk->rows = 0;
}

static void collect(position *at, const char *key, const char *value)
{
    if (at->chunk.rows == CHUNK) {
        flush(at);
    }
    at->chunk.keys[at->chunk.rows] = key;
    at->chunk.values[at->chunk.rows++] = value;
}

/* Tokens and landmarks of one dtype come together in a chunk. */
static void collect_all(position *at, const wdt_rows *rows, const wdt_candidates *candidates)
{
    const ptrdiff_t row = rows->stride * (ptrdiff_t)wdt_number_bytes(rows->half);
    const char *const keys = rows->keys, *const values = rows->values;
    if (at->chunk.half != rows->half) {
        flush(at);
        at->chunk.half = rows->half;
    }
    for (ptrdiff_t j = candidates->begin; j < candidates->end; j++) {
        const ptrdiff_t from = wdt_row_in_ring(rows, j) * row;
        collect(at, keys + from, values + from);
    }
    for (int s = 0; s < candidates->n_singles; s++) {
        collect(at, keys + candidates->singles[s] * row, values + candidates->singles[s] * row);
    }
}

static void attend_heads(const float *q, int H, ptrdiff_t D, const wdt_rows *token_rows, const wdt_candidates *tokens,
                         const wdt_rows *landmark_rows, const wdt_candidates *landmarks, float *out, float *log_sum)
{
    position at;
    at.q = q, at.out = out, at.D = D, at.H = H, at.scale = 1.0f / sqrtf((float)D);
    at.chunk.rows = at.chunk.half = at.softmax.chunks = 0;
    for (int h = 0; h < H; h++) {
        at.softmax.largest[h] = at.softmax.base[h] = -INFINITY; /* the first chunk has a candidate for every head */
        at.softmax.total[h] = 0.0f;
    }
    collect_all(&at, token_rows, tokens);
    collect_all(&at, landmark_rows, landmarks);
    flush(&at);
    for (int h = 0; h < H; h++) {
        const float inverse = 1.0f / at.softmax.total[h]; /* one candidate has weight 1: the total is at least that */
        for (ptrdiff_t d = 0; d < D; d++) {
            out[h * D + d] *= inverse;
        }
        if (log_sum) {
            log_sum[h] = at.softmax.largest[h] + logf(at.softmax.total[h]);
        }
    }
}

static void attend_group(const float *q, int heads, int D, const wdt_rows *token_rows, const wdt_candidates *tokens,
                         const wdt_rows *landmark_rows, const wdt_candidates *landmarks, float *out, float *log_sum)
{
    for (int h = 0, H; h < heads; h += H) {
        const ptrdiff_t at = (ptrdiff_t)h * D;
        H = heads - h >= 4 ? 4 : heads - h >= 2 ? 2 : 1;
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

/* ------------------------------------------------------------------------------------------------------- products */

/* Outputs j .. j + N - 1 of R rows of x, in registers over all inputs: a weight is loaded once for R of them. */
INLINE void multiply_outputs(const float *x, const void *W, int dtype, ptrdiff_t n_in, ptrdiff_t n_out, ptrdiff_t j,
                             int R, int N, int add, float *y)
{
    const void *const numbers = wdt_tensor_numbers(W, dtype);
    const float scale = wdt_tensor_scale(W, dtype);
    float sums[OUTPUTS];
    UNROLL
    for (int s = 0; s < R * N; s++) {
        sums[s] = add && dtype != WDT_INT8 ? y[s / N * n_out + j + s % N] : 0.0f;
    }
    for (ptrdiff_t i = 0; i < n_in; i++) {
        UNROLL
        for (int s = 0; s < N; s++) {
            const float weight = number(numbers, dtype, i * n_out + j + s);
            UNROLL
            for (int r = 0; r < R; r++) {
                sums[r * N + s] = wdt_fma(x[r * n_in + i], weight, sums[r * N + s]);
            }
        }
    }
    UNROLL
    for (int s = 0; s < R * N; s++) {
        float *const at = y + s / N * n_out + j + s % N;
        *at = dtype == WDT_INT8 ? wdt_fma(sums[s], scale, add ? *at : 0.0f) : sums[s];
    }
}

INLINE void multiply_rows(const float *x, const void *W, int dtype, ptrdiff_t n_in, ptrdiff_t n_out, int R, int add,
                          float *y)
{
    ptrdiff_t j = 0;
    for (; j + OUTPUTS / R <= n_out; j += OUTPUTS / R) {
        multiply_outputs(x, W, dtype, n_in, n_out, j, R, OUTPUTS / R, add, y);
    }
    for (; R == 1 && dtype != WDT_INT8 && j + TILE <= n_out; j += TILE) {
        multiply_outputs(x, W, dtype, n_in, n_out, j, R, TILE, add, y);
    }
    for (; j < n_out; j++) {
        multiply_outputs(x, W, dtype, n_in, n_out, j, R, 1, add, y);
    }
}

INLINE void multiply(const float *x, int32_t n, const void *W, int dtype, ptrdiff_t n_in, ptrdiff_t n_out, int add,
                     float *y)
{
    int32_t r = 0;
    for (; r + TILE <= n; r += TILE) {
        multiply_rows(x + r * n_in, W, dtype, n_in, n_out, TILE, add, y + r * n_out);
    }
    for (; r < n; r++) {
        multiply_rows(x + r * n_in, W, dtype, n_in, n_out, 1, add, y + r * n_out);
    }
}

static void product(const float *x, int32_t n, const void *W, int dtype, int32_t n_in, int32_t n_out, int add, float *y)
{
    if (dtype == WDT_INT8) {
        multiply(x, n, W, WDT_INT8, n_in, n_out, add, y);
    } else if (dtype == WDT_FLOAT16) {
        multiply(x, n, W, WDT_FLOAT16, n_in, n_out, add, y);
    } else {
        multiply(x, n, W, WDT_FLOAT32, n_in, n_out, add, y);
    }
}

/* MAX_HEADS rows of x times the rows of W [n_out, n_in], a tile of them at a time; behind the last one, it again. */
INLINE void multiply_transposed(const float *x, const void *W, int dtype, ptrdiff_t n_in, ptrdiff_t n_out, int add,
                                float *y)
{
    const char *const numbers = wdt_tensor_numbers(W, dtype);
    const float scale = wdt_tensor_scale(W, dtype);
    for (ptrdiff_t j = 0; j < n_out; j += TILE) {
        const int R = n_out - j < TILE ? (int)(n_out - j) : TILE;
        const void *rows[TILE];
        float sums[TILE * MAX_HEADS];
        for (int r = 0; r < TILE; r++) {
            const ptrdiff_t row = j + (r < R ? r : R - 1);
            rows[r] = numbers + (size_t)(row * n_in) * wdt_weight_bytes(dtype);
        }
        multiply_tile(rows, x, n_in, dtype, MAX_HEADS, sums);
        for (int r = 0; r < R; r++) {
            for (int h = 0; h < MAX_HEADS; h++) {
                float *const at = y + h * n_out + j + r;
                const float sum = dtype == WDT_INT8 ? sums[r * MAX_HEADS + h] * scale : sums[r * MAX_HEADS + h];
                *at = add ? *at + sum : sum;
            }
        }
    }
}

/* The same of one row of x, for what is left of them: small, whatever the dtype. */
static void multiply_transposed_once(const float *x, const void *W, int dtype, ptrdiff_t n_in, ptrdiff_t n_out, int add,
                                     float *y)
{
    const char *row = wdt_tensor_numbers(W, dtype);
    const float scale = wdt_tensor_scale(W, dtype);
    for (ptrdiff_t j = 0; j < n_out; j++, row += (size_t)n_in * wdt_weight_bytes(dtype)) {
        float sum = 0.0f;
        for (ptrdiff_t i = 0; i < n_in; i++) {
            sum = wdt_fma(number(row, dtype, i), x[i], sum);
        }
        y[j] = add ? y[j] + sum * scale : sum * scale;
    }
}

static void product_transposed(const float *x, int32_t n, const void *W, int dtype, int32_t n_in, int32_t n_out,
                               int add, float *y)
{
    for (; n >= MAX_HEADS; n -= MAX_HEADS, x += MAX_HEADS * n_in, y += MAX_HEADS * n_out) {
        if (dtype == WDT_INT8) {
            multiply_transposed(x, W, WDT_INT8, n_in, n_out, add, y);
        } else if (dtype == WDT_FLOAT16) {
            multiply_transposed(x, W, WDT_FLOAT16, n_in, n_out, add, y);
        } else {
            multiply_transposed(x, W, WDT_FLOAT32, n_in, n_out, add, y);
        }
    }
    for (; n > 0; n--, x += n_in, y += n_out) {
        multiply_transposed_once(x, W, dtype, n_in, n_out, add, y);
    }
}

const wdt_kernels wdt_kernels_portable = {
    .name = "portable",
    .attend = attend,
    .product = product,
    .product_transposed = product_transposed,
    .to_half = wdt_to_half,
    .first_unusable = wdt_find_unusable,
};

const wdt_window_kernels wdt_window_kernels_portable = {
    .prepared_bytes = wdt_positions_prepared_bytes,
    .scratch_bytes = wdt_positions_scratch_bytes,
    .prepare = wdt_positions_prepare,
    .attend = attend_window,
    .backward_bytes = wdt_gradient_bytes,
    .backward = wdt_gradient,
    .multiply_add = wdt_multiply_add_plainly,
};
