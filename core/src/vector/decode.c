/* One position's queries against rows of keys and values: the step for a vector unit.
 *
 * The steps are those of ../attend.c. Rows come CHUNK at a time, float32 or float16, each loaded (and converted) once
 * for up to four query heads:
 *
 *   score    vecs lie along the dimensions; WDT_LANES sums (a row and a head each) are added up over their lanes at
 *            once, and their vec of scores has row-major lanes: lane = row * H + head
 *   weigh    largest score, exp and sum, lane by lane, and then over the lanes of the same head
 *   add      vecs along the dimensions again: weight * value into sums in registers, over all rows of the chunk */
#include "table.h"

#include "../half.h"

#define CHUNK 64
#define MAX_HEADS 4 /* heads at once: 1, 2 or 4, which divide WDT_LANES */

typedef struct chunk {
    int n;
    const char *keys[CHUNK + WDT_LANES], *values[CHUNK]; /* the last key again in the places beyond n */
} chunk;

typedef struct running {
    float largest[MAX_HEADS]; /* score that the weights are relative to */
    float total[MAX_HEADS];   /* sum of weights */
    float rescale[MAX_HEADS]; /* what the newest chunk does to earlier sums */
} running;

/* Candidates begin .. begin + CHUNK - 1, counted through the interval and then the single ones. */
static void collect(const wdt_rows *rows, const wdt_candidates *candidates, ptrdiff_t begin, chunk *chunk)
{
    const ptrdiff_t interval = candidates->end - candidates->begin, left = interval + candidates->n_singles - begin;
    const ptrdiff_t row = rows->stride * (ptrdiff_t)wdt_number_bytes(rows->half);
    chunk->n = left < CHUNK ? (int)left : CHUNK;
    for (int c = 0; c < chunk->n; c++) {
        const ptrdiff_t at = begin + c;
        const ptrdiff_t j =
            at < interval ? wdt_row_in_ring(rows, candidates->begin + at) : candidates->singles[at - interval];
        chunk->keys[c] = (const char *)rows->keys + j * row;
        chunk->values[c] = (const char *)rows->values + j * row;
    }
    for (int c = chunk->n; c < chunk->n + WDT_LANES; c++) {
        chunk->keys[c] = chunk->keys[chunk->n - 1];
    }
}

/* n dimensions of a row, WDT_LANES or fewer, from d on. n is a constant where all are there. */
WDT_INLINE vec load_dimensions(const void *row, int half, ptrdiff_t d, ptrdiff_t n)
{
    if (half) {
        const uint16_t *const at = (const uint16_t *)row + d;
        return n < WDT_LANES ? vec_load_half_first(at, n) : vec_load_half(at);
    }
    return load_row(row, d, d + n);
}

/* sums += q * key, for dimensions d .. d + n - 1: WDT_LANES / H rows' keys, each with H heads' queries. */
WDT_INLINE void add_products(const char *const *keys, const float *q, int H, ptrdiff_t D, int half, ptrdiff_t d,
                             ptrdiff_t n, vec sums[WDT_LANES])
{
    WDT_UNROLL
    for (int s = 0; s < WDT_LANES; s++) {
        const vec key = load_dimensions(keys[s / H], half, d, n);
        sums[s] = vec_fma(load_dimensions(q + s % H * D, 0, d, n), key, sums[s]);
    }
}

/* scores [rows][H], rows up to a multiple of WDT_LANES / H, minus infinity beyond n. */
WDT_INLINE void score(const chunk *chunk, const float *q, int H, ptrdiff_t D, int half, float *scores)
{
    const vec scale = vec_set1(1.0f / sqrtf((float)D));
    for (int c = 0; c < chunk->n; c += WDT_LANES / H) {
        vec sums[WDT_LANES];
        ptrdiff_t d = 0;
        WDT_UNROLL
        for (int s = 0; s < WDT_LANES; s++) {
            sums[s] = vec_set1(0.0f);
        }
        for (; d + WDT_LANES <= D; d += WDT_LANES) {
            add_products(chunk->keys + c, q, H, D, half, d, WDT_LANES, sums);
        }
        if (d < D) {
            add_products(chunk->keys + c, q, H, D, half, d, D - d, sums);
        }
        const int filled = (chunk->n - c) * H;
        const uint32_t lanes = filled < WDT_LANES ? (1u << filled) - 1u : WDT_ALL_LANES;
        vec_store(scores + c * H, vec_keep(vec_mul(vec_sums(sums), scale), lanes, vec_set1(-INFINITY)));
    }
}

/* scores -> weights exp(score - largest), in place. */
WDT_INLINE void weigh(int n, int H, float *scores, running *softmax)
{
    float lanes[WDT_LANES], largest[WDT_LANES];
    vec most = vec_set1(-INFINITY), sum = vec_set1(0.0f);
    for (int s = 0; s < n * H; s += WDT_LANES) {
        most = vec_max(most, vec_load(scores + s));
    }
    vec_store(lanes, most);
    for (int h = 0; h < H; h++) {
        const float before = softmax->largest[h];
        for (int l = h; l < WDT_LANES; l += H) {
            softmax->largest[h] = softmax->largest[h] < lanes[l] ? lanes[l] : softmax->largest[h];
        }
        softmax->rescale[h] = before == softmax->largest[h] ? 1.0f : expf(before - softmax->largest[h]);
        for (int l = h; l < WDT_LANES; l += H) {
            largest[l] = softmax->largest[h];
        }
    }
    for (int s = 0; s < n * H; s += WDT_LANES) {
        const vec weight = vec_exp(vec_sub(vec_load(scores + s), vec_load(largest)));
        vec_store(scores + s, weight);
        sum = vec_add(sum, weight);
    }
    vec_store(lanes, sum);
    for (int h = 0; h < H; h++) {
        softmax->total[h] *= softmax->rescale[h];
        for (int l = h; l < WDT_LANES; l += H) {
            softmax->total[h] += lanes[l];
        }
    }
}

/* N vecs of dimensions from d on, n in each, of H heads: out = out * rescale + sum over rows of weight * value. */
WDT_INLINE void add_dimensions(const chunk *chunk, int N, int H, ptrdiff_t d, ptrdiff_t n, ptrdiff_t D, int half,
                               const float *weights, const running *softmax, float *out)
{
    vec sums[4 * MAX_HEADS];
    WDT_UNROLL
    for (int s = 0; s < N * H; s++) {
        sums[s] = vec_set1(0.0f);
    }
    for (int c = 0; c < chunk->n; c++) {
        WDT_UNROLL
        for (int j = 0; j < N; j++) {
            const vec value = load_dimensions(chunk->values[c], half, d + j * WDT_LANES, n);
            WDT_UNROLL
            for (int h = 0; h < H; h++) {
                sums[j * H + h] = vec_fma(vec_set1(weights[c * H + h]), value, sums[j * H + h]);
            }
        }
    }
    WDT_UNROLL
    for (int s = 0; s < N * H; s++) {
        float *const to = out + s % H * D;
        const ptrdiff_t at = d + s / H * WDT_LANES;
        store_row(to, at, D, vec_fma(load_row(to, at, D), vec_set1(softmax->rescale[s % H]), sums[s]));
    }
}

/* Two vecs of four heads are 8 sums in registers; what is left goes a vec at a time, the last one partial. */
WDT_INLINE void add(const chunk *chunk, int H, ptrdiff_t D, int half, const float *weights, const running *softmax,
                    float *out)
{
    const int N = H == 4 ? 2 : 4;
    ptrdiff_t d = 0;
    for (; d + N * WDT_LANES <= D; d += N * WDT_LANES) {
        add_dimensions(chunk, N, H, d, WDT_LANES, D, half, weights, softmax, out);
    }
    for (; d + WDT_LANES <= D; d += WDT_LANES) {
        add_dimensions(chunk, 1, H, d, WDT_LANES, D, half, weights, softmax, out);
    }
    if (d < D) {
        add_dimensions(chunk, 1, H, d, D - d, D, half, weights, softmax, out);
    }
}

WDT_INLINE void attend_rows(const float *q, int H, ptrdiff_t D, int half, const wdt_rows *rows,
                            const wdt_candidates *candidates, running *softmax, float *out)
{
    const ptrdiff_t n = candidates->end - candidates->begin + candidates->n_singles;
    float scores[(CHUNK + WDT_LANES) * MAX_HEADS];
    chunk chunk;
    for (ptrdiff_t begin = 0; begin < n; begin += CHUNK) {
        collect(rows, candidates, begin, &chunk);
        score(&chunk, q, H, D, half, scores);
        weigh(chunk.n, H, scores, softmax);
        add(&chunk, H, D, half, scores, softmax, out);
    }
}

WDT_INLINE void attend_heads(const float *q, int H, ptrdiff_t D, const wdt_rows *token_rows,
                             const wdt_candidates *tokens, const wdt_rows *landmark_rows,
                             const wdt_candidates *landmarks, float *out)
{
    running softmax;
    for (int h = 0; h < H; h++) {
        softmax.largest[h] = -INFINITY; /* the first chunk has a candidate for every head */
        softmax.total[h] = 0.0f;
    }
    memset(out, 0, (size_t)(H * D) * sizeof *out);
    if (token_rows->half) {
        attend_rows(q, H, D, 1, token_rows, tokens, &softmax, out);
    } else {
        attend_rows(q, H, D, 0, token_rows, tokens, &softmax, out);
    }
    attend_rows(q, H, D, 0, landmark_rows, landmarks, &softmax, out);
    for (int h = 0; h < H; h++) {
        const float inverse = 1.0f / softmax.total[h];
        for (ptrdiff_t d = 0; d < D; d++) {
            out[h * D + d] *= inverse;
        }
    }
}

void WDT_NAME(attend)(const float *q, int heads, int D, const wdt_rows *token_rows, const wdt_candidates *tokens,
                      const wdt_rows *landmark_rows, const wdt_candidates *landmarks, float *out)
{
    const ptrdiff_t row = D;
    for (int h = 0, H; h < heads; h += H) {
        const float *const queries = q + h * row;
        H = heads - h >= 4 ? 4 : heads - h >= 2 ? 2 : 1;
        if (H == 4) {
            attend_heads(queries, 4, row, token_rows, tokens, landmark_rows, landmarks, out + h * row);
        } else if (H == 2) {
            attend_heads(queries, 2, row, token_rows, tokens, landmark_rows, landmarks, out + h * row);
        } else {
            attend_heads(queries, 1, row, token_rows, tokens, landmark_rows, landmarks, out + h * row);
        }
    }
}
