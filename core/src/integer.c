/* The integer kernels: for a chip without a float unit. Queries, rows and weights become integers with one exponent a
 * row (block.h) as they are loaded; sums of products, the softmax and its exp are integers, and only results are floats
 * again.
 *
 * The steps are those of attend.c, a CHUNK of rows at a time, each row converted once for up to four query heads:
 *
 *   score    mantissas of queries, with log2(e) / sqrt(D) in them, times those of keys
 *   weigh    2^(score - largest); a weight is a mantissa and an exponent of its own
 *   add      weights, with the exponents of values folded in, times mantissas of values; the chunk's sum becomes a
 *            float
 *
 * Errors, beside the rounding of results to float:
 *   score    2^-24 absolute, or 2^-30 of the largest that a score of this query and key could be; and for each
 *            dimension 2^-24 of the query's largest number times the key's
 *   weight   2^-28 relative, by the power of two; 0 below 2^-64 of the largest
 *   out      2^-26 of the sum of weights times each row's largest number, for each row; float rounding where there is
 *            more than one chunk
 * All are of a row's largest number: of numbers in one row that differ by more than 2^30, the small ones are lost. Rows
 * do not disturb each other, neither keys nor values. A score has no limit: its scale follows the exponents. */
#include <math.h>

#include "block.h"
#include "gradient.h"
#include "inline.h"
#include "integer.h"
#include "kernels.h"
#include "positions.h"
#include "unusable.h"

enum {
    CHUNK = 44,        /* rows at once: all, or nearly all, of a position's of the default head */
    MAX_HEADS = 4,     /* heads at once */
    SEGMENT = 16,      /* dimensions of a score that are summed without a shift */
    SCORE_BITS = 24,   /* behind the point of a score, of powers of two, unless it is too large for that */
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
    int32_t largest[MAX_HEADS], scale[MAX_HEADS]; /* the largest score so far, and its scale */
    int32_t unit[MAX_HEADS], segments;            /* what a row's scale follows from: scale_of() */
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
INLINE void add_score(const void *key, int half, ptrdiff_t d, ptrdiff_t n, int32_t E, int32_t segments, int H,
                      const int32_t *queries, const int32_t *shifts, int32_t *score)
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
        const uint32_t shift = (uint32_t)(shifts[h] - E > segments ? shifts[h] - E : segments);
        const int32_t sum = shift == 0 ? sums[h] : shift < 32 ? (sums[h] + (int32_t)(1u << (shift - 1))) >> shift : 0;
        score[h] = d == 0 ? sum : score[h] + sum;
    }
}

/* The scale of a head's score with a row: fine enough, and coarse enough that it does not reach 2^31. A row's own, so
 * that one with large numbers does not disturb the others. */
static int32_t scale_of(const position *at, int h, int c)
{
    const int32_t needed = at->unit[h] + at->chunk.key_exponents[c] + at->segments;
    return needed > -SCORE_BITS ? needed : -SCORE_BITS;
}

/* What scale_of() follows from. shifts [H]: what a segment's sum with a key of exponent 0 is shifted by at least. */
static void choose_scales(position *at, const int32_t *exponents, int32_t *shifts)
{
    at->segments = 0;
    while ((ptrdiff_t)SEGMENT << at->segments < at->D) {
        at->segments++;
    }
    for (int h = 0; h < at->H; h++) {
        /* A sum's unit: mantissas of queries are (mantissa * factor) >> 33, and 2^32 is shifted out of the products. */
        const int32_t factor = (int32_t)(wdt_float_bits(at->factor) >> 23) - 127 - 30;
        at->unit[h] = exponents[h] - WDT_BLOCK_BIAS + factor + 33 - WDT_BLOCK_BIAS + 32;
        shifts[h] = -SCORE_BITS - at->unit[h];
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
                add_score(chunk->keys[c], 1, d, n, E, at->segments, MAX_HEADS, queries, shifts, to);
            } else if (H == MAX_HEADS) {
                add_score(chunk->keys[c], 0, d, n, E, at->segments, MAX_HEADS, queries, shifts, to);
            } else {
                add_score(chunk->keys[c], half, d, n, E, at->segments, H, queries, shifts, to);
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

/* 1 if a 2^a_scale > b 2^b_scale, as far as the coarser of the two tells. */
static int is_larger(int32_t a, int32_t a_scale, int32_t b, int32_t b_scale)
{
    const int32_t d = a_scale - b_scale;
    return d >= 0 ? a > b >> (d < 31 ? d : 31) : a >> (-d < 31 ? -d : 31) > b;
}

/* 2^(score - largest): a score that is not larger. */
static int32_t weight_of(int32_t largest, int32_t largest_scale, int32_t score, int32_t scale, int32_t *drop)
{
    const int32_t d = scale - largest_scale;
    if (d >= 0) {
        return weight_at((uint32_t)(largest >> (d < 31 ? d : 31)) - (uint32_t)score, scale, drop);
    }
    const int64_t finer = -d < 32 ? (int64_t)largest * ((int64_t)1 << -d) : largest > 0 ? INT64_MAX / 2 : 0;
    const int64_t distance = finer - score;
    return weight_at(distance < 0 ? 0 : distance > UINT32_MAX ? UINT32_MAX : (uint32_t)distance, scale, drop);
}

/* scores -> weights of head h, and its total of all chunks. */
static void weigh(position *at, int h)
{
    chunk *const chunk = &at->chunk;
    const int H = at->H;
    const int32_t before = at->largest[h], before_scale = at->scale[h];
    int32_t largest = before, scale = before_scale, drop;
    uint64_t sum = 0;
    for (int c = 0; c < chunk->n; c++) {
        const int32_t score = chunk->weights[c * H + h], of_row = scale_of(at, h, c);
        if ((at->chunks == 0 && c == 0) || is_larger(score, of_row, largest, scale)) {
            largest = score, scale = of_row;
        }
    }
    for (int c = 0; c < chunk->n; c++) {
        int32_t *const score = chunk->weights + c * H + h;
        *score = weight_of(largest, scale, *score, scale_of(at, h, c), &drop);
        chunk->drops[c * H + h] = (uint8_t)drop;
        sum += (uint32_t)*score >> (drop < 32 ? drop : 31);
    }
    at->largest[h] = largest, at->scale[h] = scale;
    const float total = wdt_block_float((int32_t)(sum >> 5), 5 - 29); /* at most CHUNK * 2^30 >> 5 */
    if (at->chunks) {
        const int32_t rescale = weight_of(largest, scale, before, before_scale, &drop);
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

/* The usual case has its own code; fewer heads, and the last of an odd number of dimensions, share one that is
 * small. */
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
        exponents[h] = wdt_block_align(chunk->weights + h, folded, chunk->n, H) + 32 - 29 - WDT_BLOCK_BIAS;
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
        collect(at, rows, wdt_row_in_ring(rows, j));
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

const wdt_kernels wdt_kernels_integer = {
    .name = "integer",
    .attend = attend,
    .product = wdt_integer_product,
    .product_transposed = wdt_integer_product_transposed,
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
