/* The window pass for a vector unit. The steps are the reference's (scalar.c, attend.c): block means, candidates, a
 * running softmax over tokens and landmarks together. What differs is the order, chosen so that every number loaded is
 * used by many queries, and every vec is full.
 *
 * A tile is WDT_LANES neighbouring query positions, one a lane, and up to four query heads that read the same keys. Its
 * candidates are columns: what all lanes look at together. With 8 lanes, a window of 5 and queries at i = 15 .. 22,
 * in the matrix of queries and keys:
 *
 *                  key  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2
 *   query i = 15      g . . . . . . s . . 5 4 3 2 1 0                 a digit is the offset i - key:
 *             16      s . . . . . . . s . . 5 4 3 2 1 0               one column each, a diagonal
 *             17      g s . . . . . . . s . . 5 4 3 2 1 0
 *             18      g . s . . . . . . . s . . 5 4 3 2 1 0           s: columns 8 and 16 back
 *             19      g . . s . . . . . . . s . . 5 4 3 2 1 0
 *             20      g . . . s . . . . . . . s . . 5 4 3 2 1 0       g: a global token, one row for all
 *             21      g . . . . s . . . . . . . s . . 5 4 3 2 1 0
 *             22      g . . . . . s . . . . . . . s . . 5 4 3 2 1 0
 *
 *   1. Window and log-stride are diagonals: lane l needs row p + l, for one p a column. The keys lie transposed
 *      (layout.h), so that one load brings dimension d of all lanes' rows. The only lanes without work are those where
 *      the sequence begins or ends.
 *   2. Globals and landmarks are shared rows: lane l needs the same row j, which is broadcast. Queries that end in the
 *      same block see the same landmarks; causal tiles begin one position early (.., 7 .. 14, 15 .. 22, ..), so that
 *      with a block_size that is a multiple of WDT_LANES all lanes of a tile do.
 *
 * The columns are taken CHUNK at a time, each chunk in three passes:
 *
 *   score    sum over d of query[d] * key[d]: for a few columns and all heads at once, in registers over all d
 *   weigh    the running maximum of each lane, exp, the running sum
 *   add      sum over columns of weight * value[d]: for a few d and all heads at once, in registers over all columns
 *
 * Score and add are small matrix products without a horizontal sum: lanes stay apart from load to store. A chunk's
 * scores stay in the first-level cache and are all that is ever written down of the score matrix.
 *
 * A lane that must not see a column (its `lanes` bit is 0: before the sequence, not this lane's landmark) gets a score
 * of minus infinity, and so a weight of exactly 0. Tiles depend on nothing but their inputs, so that cutting the
 * sequence into shares changes no bit. Other files that build on the tile: gradient.c. */
#include "table.h"
#include "tile.h"

#include "../window.h"

size_t WDT_NAME(prepared_bytes)(const wdt_head *head, ptrdiff_t T)
{
    const size_t pairs = wdt_product((size_t)tile_count(head, T), (size_t)block_floats(head->head_dim));
    const size_t means = wdt_product((size_t)wdt_block_count(head, T), (size_t)head->head_dim);
    const size_t floats = wdt_sum(pairs, wdt_product(means, 2));
    return wdt_sum(wdt_product(floats, sizeof(float)), WDT_ALIGNMENT);
}

/* A tile, its queries and sums, and the ring of what it sees near it. */
size_t WDT_NAME(scratch_bytes)(const wdt_head *head, ptrdiff_t T)
{
    const size_t lanes = wdt_product((size_t)head->head_dim, 2 * MAX_HEADS * WDT_LANES);
    const size_t ring = wdt_product(wdt_product(near_slots(head, T), 2), (size_t)block_floats(head->head_dim));
    return wdt_sum(wdt_product(wdt_sum(lanes, ring), sizeof(float)), sizeof(tile) + 2 * WDT_ALIGNMENT);
}

/* Lays rows of x [T, Hkv, D] out as half of the pairs, from `to` on: blocks [first, last). */
static void fill_pairs(const wdt_window *window, const float *x, ptrdiff_t first, ptrdiff_t last, float *to)
{
    const ptrdiff_t D = window->head->head_dim, row = window->head->kv_heads * D;
    for (ptrdiff_t block = first; block < last; block++) {
        const ptrdiff_t t = tiles_begin(window->head) + block * WDT_LANES;
        const lane_rows rows = {row, lanes_within(t, 0, window->T)};
        const float *const from = x + t * row + window->kv_head * D; /* lane 0 may not be there */
        for (ptrdiff_t d = 0; d < D; d += WDT_LANES) {
            load_lanes(from + d, rows, D - d, to + block * block_floats(D) + d * WDT_LINE, WDT_LINE);
        }
    }
}

/* Block means [first, last) of x, each summed in token order as wdt_mean_blocks() does, but in registers. */
static void fill_means(const wdt_window *window, const float *x, ptrdiff_t first, ptrdiff_t last, float *means)
{
    const ptrdiff_t B = window->head->block_size, D = window->head->head_dim, row = window->head->kv_heads * D;
    for (ptrdiff_t b = first; b < last; b++) {
        const ptrdiff_t n = window->T - b * B < B ? window->T - b * B : B;
        const float *const rows = x + b * B * row + window->kv_head * D;
        const vec inverse = vec_set1(1.0f / (float)n);
        ptrdiff_t d = 0;
        for (; d + WDT_LANES <= D; d += WDT_LANES) {
            vec sum = vec_load(rows + d);
            WDT_UNROLL_BY_4
            for (ptrdiff_t t = 1; t < n; t++) {
                sum = vec_add(sum, vec_load(rows + t * row + d));
            }
            vec_store(means + b * D + d, vec_mul(sum, inverse));
        }
        for (; d < D; d++) {
            float sum = rows[d];
            for (ptrdiff_t t = 1; t < n; t++) {
                sum += rows[t * row + d];
            }
            means[b * D + d] = sum * (1.0f / (float)n);
        }
    }
}

void WDT_NAME(prepare)(const wdt_window *window, int share, int shares)
{
    const ptrdiff_t tiles = tile_count(window->head, window->T), blocks = wdt_block_count(window->head, window->T);
    const ptrdiff_t first = wdt_share_begin(tiles, share, shares), last = wdt_share_begin(tiles, share + 1, shares);
    const ptrdiff_t first_mean = wdt_share_begin(blocks, share, shares);
    const ptrdiff_t last_mean = wdt_share_begin(blocks, share + 1, shares);
    const prepared rows = prepared_of(window->head, window->T, window->prepared);
    fill_pairs(window, window->k, first, last, rows.pairs);
    fill_pairs(window, window->v, first, last, rows.pairs + WDT_LANES);
    fill_means(window, window->k, first_mean, last_mean, rows.mean_keys);
    fill_means(window, window->v, first_mean, last_mean, rows.mean_values);
}

/* ----------------------------------------------------------------------------------------------- the three passes */

/* What the softmax has come to, per head and lane. */
typedef struct running {
    vec largest[MAX_HEADS]; /* score that the weights are relative to */
    vec total[MAX_HEADS];   /* sum of weights */
    vec rescale[MAX_HEADS]; /* what the newest chunk does to earlier sums */
} running;

/* scores -> weights exp(score - largest), in place. */
WDT_INLINE void weigh_heads(float *scores, int n, int H, running *softmax)
{
    vec largest[MAX_HEADS], sum[MAX_HEADS];
    WDT_UNROLL
    for (int h = 0; h < H; h++) {
        largest[h] = softmax->largest[h];
        sum[h] = vec_set1(0.0f);
    }
    for (int c = 0; c < n; c++) {
        WDT_UNROLL
        for (int h = 0; h < H; h++) {
            largest[h] = vec_max(largest[h], vec_load(scores + (c * H + h) * WDT_LANES));
        }
    }
    for (int c = 0; c < n; c++) {
        WDT_UNROLL
        for (int h = 0; h < H; h++) {
            float *const at = scores + (c * H + h) * WDT_LANES;
            const vec weight = vec_exp(vec_sub(vec_load(at), largest[h]));
            vec_store(at, weight);
            sum[h] = vec_add(sum[h], weight);
        }
    }
    WDT_UNROLL
    for (int h = 0; h < H; h++) {
        softmax->rescale[h] = vec_exp(vec_sub(softmax->largest[h], largest[h]));
        softmax->total[h] = vec_fma(softmax->total[h], softmax->rescale[h], sum[h]);
        softmax->largest[h] = largest[h];
    }
}

static void weigh(float *scores, int n, int H, running *softmax)
{
#define WEIGH(H) weigh_heads(scores, n, H, softmax);
    WDT_HEADS(H, WEIGH)
#undef WEIGH
}

/* The lanes' largest + log(total), `stride` floats apart. */
static void store_log_sums(vec largest, vec total, uint32_t present, ptrdiff_t stride, float *log_sums)
{
    float largest_lanes[WDT_LANES], total_lanes[WDT_LANES];
    vec_store(largest_lanes, largest);
    vec_store(total_lanes, total);
    for (int l = 0; l < WDT_LANES; l++) {
        if (present >> l & 1u) {
            log_sums[l * stride] = largest_lanes[l] + logf(total_lanes[l]);
        }
    }
}

/* sums [D][H][WDT_LANES] -> one tile's output rows and log sums. */
static void finish(const wdt_window *window, const tile *tile, int h, int H, const float *sums,
                   const running *softmax)
{
    const ptrdiff_t Hq = window->head->q_heads;
    vec inverse[MAX_HEADS];
    for (int k = 0; k < H; k++) {
        inverse[k] = vec_div(vec_set1(1.0f), softmax->total[k]);
        if (window->log_sum) {
            store_log_sums(softmax->largest[k], softmax->total[k], tile->queries, Hq,
                           window->log_sum + tile->first * Hq + h + k); /* lane 0 may not be there */
        }
    }
    tile_store(window, tile, sums, inverse, h, H, window->out);
}

/* Query heads h .. h + H - 1 of one tile. */
static void attend_tile(const wdt_window *window, const tile *tile, int h, int H, float *scratch)
{
    const ptrdiff_t D = window->head->head_dim;
    float *const queries = scratch, *const sums = queries + D * H * WDT_LANES;
    float scores[CHUNK * MAX_HEADS * WDT_LANES];
    running softmax;
    chunk chunk;
    for (int k = 0; k < H; k++) {
        softmax.largest[k] = vec_set1(-FLT_MAX); /* finite, so that a lane that has seen nothing yet makes no NaN */
        softmax.total[k] = vec_set1(0.0f);
    }
    tile_load(window, tile, window->q, h, H, queries);
    for (ptrdiff_t begin = 0; begin < tile->n; begin += CHUNK) {
        chunk_collect(tile, window->head, begin, &chunk);
        chunk_dot(&chunk, KEYS, queries, D, H, 1.0f / sqrtf((float)D), scores);
        chunk_mask(&chunk, H, scores);
        weigh(scores, chunk.n, H, &softmax);
        chunk_add(&chunk, VALUES, scores, D, H, begin == 0 ? NULL : softmax.rescale, sums);
    }
    finish(window, tile, h, H, sums, &softmax);
}

void WDT_NAME(attend_window)(const wdt_window *window, int share, int shares, void *scratch)
{
    const wdt_head *const head = window->head;
    const int group = head->q_heads / head->kv_heads;
    const ptrdiff_t tiles = tile_count(head, window->T);
    const prepared rows = prepared_of(head, window->T, window->prepared);
    const ptrdiff_t begin = wdt_share_begin(tiles, share, shares), end = wdt_share_begin(tiles, share + 1, shares);
    tile *const now = (tile *)align_up(scratch); /* too large for the stack of a small thread */
    float *const own = align_up(now + 1), *const ring = own + 2 * MAX_HEADS * WDT_LANES * (ptrdiff_t)head->head_dim;
    near near = near_begin(head, window->T, begin, ring);
    for (ptrdiff_t t = begin; t < end; t++) {
        near_move(window, &rows, t, &near);
        tile_collect(window, &rows, &near, t, now);
        for (int taken = 0, H; taken < group; taken += H) {
            H = tile_heads(group, taken);
            attend_tile(window, now, window->kv_head * group + taken, H, own);
        }
    }
}
