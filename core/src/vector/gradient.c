/* The gradient of the window pass for a vector unit: the formulas of ../gradient.c on the tiles of prefill.c.
 *
 * Per chunk of columns, with g the loss's gradient by out, delta = g . out and log_sum from the forward pass:
 *
 *   score      s = q . key / sqrt(D), and g . value
 *   weigh      p = exp(s - log_sum)          ds = p (g . value - delta) / sqrt(D)
 *   add        dq += sum over columns of ds * key
 *   scatter    d key += ds * q, d value += p * g, into the column's rows
 *
 * Where the forward pass reads a column, scatter writes to the same place of a second set of layouts: a tile's columns
 * are found twice, once in the rows and once in their gradients. The rings of gradients are added to the pairs when
 * their blocks leave, and at the end everything goes back to rows [T, Hkv, D]. One thread, one order: always the same
 * bits. */
#include "table.h"
#include "tile.h"

#include "../window.h"

/* Floats between the regions of scratch that are read and written together. Their sizes are multiples of 4 KiB for
 * common heads; without this, loads from one would seem, by their last 12 address bits, to wait for stores to the
 * other. */
#define APART (19 * 16)

/* A second set of layouts, for d_keys and d_values. */
typedef struct gradients {
    prepared rows;
    near near;
} gradients;

/* One tile's lanes [D][H][WDT_LANES]. */
typedef struct lanes {
    float *q, *d_out, *dq;
} lanes;

static size_t layout_floats(const wdt_head *head, ptrdiff_t T)
{
    const size_t blocks = wdt_sum((size_t)tile_count(head, T), wdt_product(near_slots(head, T), 2));
    const size_t means = wdt_product((size_t)wdt_block_count(head, T), 2);
    const size_t D = (size_t)head->head_dim, block = (size_t)block_floats(head->head_dim);
    return wdt_sum(wdt_product(blocks, block), wdt_product(means, D));
}

/* The prepared rows and their ring, the same again for gradients, a tile's lanes, and room between them. */
size_t WDT_NAME(backward_bytes)(const wdt_head *head, ptrdiff_t T)
{
    const size_t lanes = wdt_product((size_t)head->head_dim, 3 * MAX_HEADS * WDT_LANES);
    const size_t floats = wdt_sum(wdt_product(layout_floats(head, T), 2), lanes);
    const size_t fixed = 2 * sizeof(tile) + 5 * WDT_ALIGNMENT + 2 * APART * sizeof(float);
    return wdt_sum(wdt_product(floats, sizeof(float)), fixed);
}

/* ------------------------------------------------------------------------------------------------------- scatter */

/* Columns at once in scatter: their weights of all heads stay in registers. */
#define SCATTERED(H) (WDT_ACCUMULATORS * 2 / 3 / (H) < 8 ? WDT_ACCUMULATORS * 2 / 3 / (H) : 8)

/* rows += weight * x for N diagonals that are `apart` columns apart. */
WDT_INLINE void scatter_columns(const column *columns, int which, int apart, int N, int H, const float *weights,
                                const float *x, ptrdiff_t D)
{
    float *rows[8];
    vec weight[WDT_ACCUMULATORS];
    WDT_UNROLL
    for (int c = 0; c < N; c++) {
        rows[c] = columns[c * apart].rows[which];
        WDT_UNROLL
        for (int h = 0; h < H; h++) {
            weight[c * H + h] = vec_load(weights + (c * apart * H + h) * WDT_LANES);
        }
    }
    for (ptrdiff_t d = 0; d < D; d++) {
        vec lane[MAX_HEADS];
        WDT_UNROLL
        for (int h = 0; h < H; h++) {
            lane[h] = vec_load(x + (d * H + h) * WDT_LANES);
        }
        WDT_UNROLL
        for (int c = 0; c < N; c++) {
            vec sum = vec_load(rows[c] + d * WDT_LINE);
            WDT_UNROLL
            for (int h = 0; h < H; h++) {
                sum = vec_fma(weight[c * H + h], lane[h], sum);
            }
            vec_store(rows[c] + d * WDT_LINE, sum);
        }
    }
}

/* Neighbouring diagonals overlap in memory but for one position, and a load from what was just stored has to wait for
 * it. So they are taken WDT_LANES apart. */
WDT_INLINE void scatter_diagonals(const chunk *to, int which, int H, const float *weights, const float *x, ptrdiff_t D)
{
    for (int first = 0; first < WDT_LANES; first++) {
        for (int c = first, N; c < to->n_diagonals; c += N * WDT_LANES) {
            const int left = (to->n_diagonals - c + WDT_LANES - 1) / WDT_LANES;
            N = left < SCATTERED(H) ? left : SCATTERED(H);
#define SCATTER(N, H) \
    scatter_columns(to->columns + c, which, WDT_LANES, N, H, weights + c * H * WDT_LANES, x, D)
            switch (N) { WDT_CASES(H, SCATTERED, SCATTER) }
#undef SCATTER
        }
    }
}

/* Shared rows at once, of two vecs of dimensions each, whatever H is. */
#define SHARED(H) (WDT_ACCUMULATORS / 2 < 8 ? WDT_ACCUMULATORS / 2 : 8)

/* Where a tile's queries lie in x [T, Hq, D]: lane 0's first head, which may not be there, and the lanes that are. */
typedef struct sources {
    const float *x;
    lane_rows rows;
} sources;

/* N shared rows += sum over lanes and heads of weight * x, for V vecs of dimensions from d on. Vecs lie along the
 * dimensions here, as x does, so nothing has to be summed over lanes. */
WDT_INLINE void scatter_dimensions(const column *columns, int which, int N, int V, int H, const float *weights,
                                   const sources *from, ptrdiff_t d, ptrdiff_t D)
{
    vec sums[WDT_ACCUMULATORS];
    WDT_UNROLL
    for (int s = 0; s < N * V; s++) {
        sums[s] = vec_set1(0.0f);
    }
    for (int l = 0; l < WDT_LANES; l++) {
        for (int h = 0; h < H && from->rows.present >> l & 1u; h++) {
            vec x[2];
            WDT_UNROLL
            for (int j = 0; j < V; j++) {
                x[j] = load_row(from->x + l * from->rows.stride + h * D, d + j * WDT_LANES, D);
            }
            WDT_UNROLL
            for (int s = 0; s < N * V; s++) {
                sums[s] = vec_fma(vec_set1(weights[(s / V * H + h) * WDT_LANES + l]), x[s % V], sums[s]);
            }
        }
    }
    WDT_UNROLL
    for (int s = 0; s < N * V; s++) {
        float *const row = columns[s / V].rows[which];
        const ptrdiff_t at = d + s % V * WDT_LANES;
        store_row(row, at, D, vec_add(load_row(row, at, D), sums[s]));
    }
}

WDT_INLINE void scatter_rows(const column *columns, int which, int N, int H, const float *weights,
                             const sources *from, ptrdiff_t D)
{
    ptrdiff_t d = 0;
    for (; d + 2 * WDT_LANES <= D; d += 2 * WDT_LANES) {
        scatter_dimensions(columns, which, N, 2, H, weights, from, d, D);
    }
    for (; d < D; d += WDT_LANES) {
        scatter_dimensions(columns, which, N, 1, H, weights, from, d, D);
    }
}

/* The heads H of a shared row are a loop and no constant: they are many little, and the code is one. */
static void scatter_shared(const chunk *to, int which, int H, const float *weights, const sources *from, ptrdiff_t D)
{
    for (int c = to->n_diagonals, N; c < to->n; c += N) {
        N = to->n - c < SHARED(H) ? to->n - c : SHARED(H);
#define SCATTER(N, H) scatter_rows(to->columns + c, which, N, H, weights + c * H * WDT_LANES, from, D)
        switch (N) { WDT_CASES(H, SHARED, SCATTER) }
#undef SCATTER
    }
}

/* The columns' `which` rows += weights [n][H][WDT_LANES] * x, which is lanes [D][H][WDT_LANES] for diagonals, and lies
 * where `from` says for shared rows. */
static void scatter(const chunk *to, int which, const float *weights, const float *x, const sources *from, ptrdiff_t D,
                    int H)
{
#define SCATTER_HEADS(H) scatter_diagonals(to, which, H, weights, x, D);
    WDT_HEADS(H, SCATTER_HEADS)
#undef SCATTER_HEADS
    scatter_shared(to, which, H, weights, from, D);
}

/* ---------------------------------------------------------------------------------------------------------- tiles */

/* delta [H][WDT_LANES] = g . out of each query; zeros where a lane is no query. */
static void dot_rows(const wdt_window *window, const tile *tile, const float *d_out, int h, int H, float *delta)
{
    const ptrdiff_t Hq = window->head->q_heads, D = window->head->head_dim;
    for (int k = 0; k < H; k++) {
        vec sums[WDT_LANES];
        for (int l = 0; l < WDT_LANES; l++) {
            const ptrdiff_t row = ((tile->first + l) * Hq + h + k) * D;
            sums[l] = vec_set1(0.0f);
            for (ptrdiff_t d = 0; d < D && tile->queries >> l & 1u; d += WDT_LANES) {
                sums[l] = vec_fma(load_row(d_out + row, d, D), load_row(window->out + row, d, D), sums[l]);
            }
        }
        vec_store(delta + k * WDT_LANES, vec_sums(sums));
    }
}

/* [H][WDT_LANES] of log_sum [T, Hq], zeros where a lane is no query. */
static void load_log_sums(const wdt_window *window, const tile *tile, int h, int H, float *log_sums)
{
    for (int k = 0; k < H; k++) {
        for (int l = 0; l < WDT_LANES; l++) {
            const ptrdiff_t at = (tile->first + l) * window->head->q_heads + h + k;
            log_sums[k * WDT_LANES + l] = tile->queries >> l & 1u ? window->log_sum[at] : 0.0f;
        }
    }
}

WDT_INLINE void weigh_heads(int n, int H, float scale, const float *log_sums, const float *delta, float *scores,
                            float *ds)
{
    vec log_sum[MAX_HEADS], mean[MAX_HEADS];
    WDT_UNROLL
    for (int h = 0; h < H; h++) {
        log_sum[h] = vec_load(log_sums + h * WDT_LANES);
        mean[h] = vec_load(delta + h * WDT_LANES);
    }
    for (int c = 0; c < n; c++) {
        WDT_UNROLL
        for (int h = 0; h < H; h++) {
            float *const score = scores + (c * H + h) * WDT_LANES, *const slope = ds + (c * H + h) * WDT_LANES;
            const vec below = vec_max(vec_sub(log_sum[h], vec_load(score)), vec_set1(0.0f)); /* p is at most 1 */
            const vec p = vec_exp(vec_sub(vec_set1(0.0f), below));
            const vec centered = vec_mul(vec_sub(vec_load(slope), mean[h]), vec_set1(scale));
            vec_store(score, p);
            vec_store(slope, vec_mul(p, centered));
        }
    }
}

/* scores -> p; g . values -> ds: [n][H][WDT_LANES] each, in place. */
static void weigh(int n, int H, float scale, const float *log_sums, const float *delta, float *scores, float *ds)
{
#define WEIGH(H) weigh_heads(n, H, scale, log_sums, delta, scores, ds);
    WDT_HEADS(H, WEIGH)
#undef WEIGH
}

/* Query heads h .. h + H - 1 of one tile; `to` is the tile's columns in the gradients. */
static void through_tile(const wdt_window *window, const tile *from, const tile *to, int h, int H, const float *d_out,
                         float *dq, const lanes *lanes)
{
    const ptrdiff_t D = window->head->head_dim;
    const float scale = 1.0f / sqrtf((float)D);
    const vec ones[MAX_HEADS] = {vec_set1(1.0f), vec_set1(1.0f), vec_set1(1.0f), vec_set1(1.0f)};
    float scores[CHUNK * MAX_HEADS * WDT_LANES], ds[CHUNK * MAX_HEADS * WDT_LANES];
    float delta[MAX_HEADS * WDT_LANES], log_sums[MAX_HEADS * WDT_LANES];
    const ptrdiff_t first = (from->first * window->head->q_heads + h) * D;
    const lane_rows rows = {window->head->q_heads * D, from->queries};
    const sources queries = {window->q + first, rows}, d_outs = {d_out + first, rows};
    chunk chunk, gradient;
    tile_load(window, from, window->q, h, H, lanes->q);
    tile_load(window, from, d_out, h, H, lanes->d_out);
    dot_rows(window, from, d_out, h, H, delta);
    load_log_sums(window, from, h, H, log_sums);
    for (ptrdiff_t begin = 0; begin < from->n; begin += CHUNK) {
        chunk_collect(from, window->head, begin, &chunk);
        chunk_collect(to, window->head, begin, &gradient);
        chunk_dot(&chunk, KEYS, lanes->q, D, H, scale, scores);
        chunk_dot(&chunk, VALUES, lanes->d_out, D, H, 1.0f, ds);
        chunk_mask(&chunk, H, scores);
        weigh(chunk.n, H, scale, log_sums, delta, scores, ds);
        chunk_add(&chunk, KEYS, ds, D, H, begin == 0 ? NULL : ones, lanes->dq);
        scatter(&gradient, KEYS, ds, lanes->q, &queries, D, H);
        scatter(&gradient, VALUES, scores, lanes->d_out, &d_outs, D, H);
    }
    tile_store(window, from, lanes->dq, ones, h, H, dq);
}

/* ---------------------------------------------------------------------------------------- gradients back to rows */

/* pairs [D] lines += one half of the lines of a block of the ring. */
static void add_half_lines(const float *keys, const float *values, ptrdiff_t D, float *pairs)
{
    for (ptrdiff_t at = 0; at < D * WDT_LINE; at += WDT_LINE) {
        vec_store(pairs + at, vec_add(vec_load(pairs + at), vec_load(keys + at)));
        vec_store(pairs + at + WDT_LANES, vec_add(vec_load(pairs + at + WDT_LANES), vec_load(values + at)));
    }
}

/* Adds what the ring's first block has received to the pairs. */
static void retire_block(ptrdiff_t tiles, ptrdiff_t D, gradients *gradients)
{
    near *const near = &gradients->near;
    const ptrdiff_t at = near_block(near, near->begin, D);
    for (int half = 0; half < 2; half++) {
        const ptrdiff_t block = near->begin + half;
        if (block >= 0 && block < tiles) {
            add_half_lines(near->keys + at + half * WDT_LANES, near->values + at + half * WDT_LANES, D,
                           gradients->rows.pairs + block * block_floats(D));
        }
    }
    near->begin++;
}

/* Moves the ring of gradients on to where the rows' ring is: blocks that leave are added to the pairs, those that come
 * begin at zero. */
static void move_gradients(const near *rows, ptrdiff_t tiles, ptrdiff_t D, gradients *gradients)
{
    near *const near = &gradients->near;
    while (near->end < rows->end) {
        if (near->end - near->begin == near->slots) {
            retire_block(tiles, D, gradients);
        }
        const ptrdiff_t at = near_append(near, D);
        memset(near->keys + at, 0, (size_t)(D * WDT_LINE) * sizeof(float));
        memset(near->values + at, 0, (size_t)(D * WDT_LINE) * sizeof(float));
    }
}

/* dx [T, Hkv, D] += half of the pairs, from `pairs` on. */
static void add_pairs(const wdt_window *window, const float *pairs, float *dx)
{
    const ptrdiff_t D = window->head->head_dim, row = window->head->kv_heads * D;
    for (ptrdiff_t block = 0; block < tile_count(window->head, window->T); block++) {
        const ptrdiff_t t = tiles_begin(window->head) + block * WDT_LANES;
        const lane_rows rows = {row, lanes_within(t, 0, window->T)};
        float *const to = dx + t * row + window->kv_head * D;
        for (ptrdiff_t d = 0; d < D; d += WDT_LANES) {
            float lanes[WDT_LANES * WDT_LANES];
            load_lanes(to + d, rows, D - d, lanes, WDT_LANES);
            for (ptrdiff_t j = 0; j < WDT_LANES && d + j < D; j++) {
                const vec sum = vec_load(pairs + block * block_floats(D) + (d + j) * WDT_LINE);
                vec_store(lanes + j * WDT_LANES, vec_add(vec_load(lanes + j * WDT_LANES), sum));
            }
            store_lanes(lanes, WDT_LANES, vec_set1(1.0f), D - d, rows, to + d);
        }
    }
}

/* Zero in this head's rows of dx [T, Hkv, D]. */
static void clear_rows(const wdt_window *window, float *dx)
{
    const ptrdiff_t D = window->head->head_dim, row = window->head->kv_heads * D;
    for (ptrdiff_t t = 0; t < window->T; t++) {
        memset(dx + t * row + window->kv_head * D, 0, (size_t)D * sizeof *dx);
    }
}

void WDT_NAME(backward)(const wdt_window *window, const float *d_out, float *dq, float *dk, float *dv, void *scratch)
{
    const wdt_head *const head = window->head;
    const ptrdiff_t T = window->T, D = head->head_dim, tiles = tile_count(head, T);
    const int group = head->q_heads / head->kv_heads;
    const ptrdiff_t ring = 2 * (ptrdiff_t)near_slots(head, T) * block_floats(D);
    const size_t prepared_bytes = WDT_NAME(prepared_bytes)(head, T);
    char *const second = (char *)scratch + prepared_bytes;
    float *const rings = align_up(second + prepared_bytes), *const own = align_up(rings + 2 * (ring + APART));
    const ptrdiff_t tile_size = D * MAX_HEADS * WDT_LANES;
    const lanes lanes = {own, own + tile_size, own + 2 * tile_size};

    wdt_window rows_window = *window, gradient_window = *window;
    rows_window.prepared = scratch;
    gradient_window.k = dk;
    gradient_window.v = dv;
    WDT_NAME(prepare)(&rows_window, 0, 1);
    memset(second, 0, prepared_bytes);
    clear_rows(window, dk);
    clear_rows(window, dv);

    const prepared rows = prepared_of(head, T, scratch);
    near near = near_begin(head, T, 0, rings);
    gradients gradients = {prepared_of(head, T, second), near_begin(head, T, 0, rings + ring + APART)};
    tile *const from = (tile *)align_up(own + 3 * tile_size), *const to = from + 1;
    for (ptrdiff_t t = 0; t < tiles; t++) {
        near_move(window, &rows, t, &near);
        move_gradients(&near, tiles, D, &gradients);
        tile_collect(window, &rows, &near, t, from);
        tile_collect(&gradient_window, &gradients.rows, &gradients.near, t, to);
        for (int taken = 0, H; taken < group; taken += H) {
            H = tile_heads(group, taken);
            through_tile(window, from, to, window->kv_head * group + taken, H, d_out, dq, &lanes);
        }
    }
    while (gradients.near.begin < gradients.near.end) {
        retire_block(tiles, D, &gradients);
    }
    add_pairs(window, gradients.rows.pairs, dk);
    add_pairs(window, gradients.rows.pairs + WDT_LANES, dv);
    if (wdt_block_count(head, T)) {
        wdt_spread_block_gradients(window, gradients.rows.mean_keys, dk);
        wdt_spread_block_gradients(window, gradients.rows.mean_values, dv);
    }
}
