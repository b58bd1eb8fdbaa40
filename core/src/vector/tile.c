/* Tiles: which columns one has, and the two small matrix products over them. prefill.c explains both. */
#include "tile.h"

#include "../pattern.h"

/* --------------------------------------------------------------------------------------- what a tile sees near it */

near near_begin(const wdt_head *head, ptrdiff_t T, ptrdiff_t t, float *memory)
{
    const ptrdiff_t slots = (ptrdiff_t)near_slots(head, T), around = near_blocks(head, T);
    const ptrdiff_t first = t > around ? t - around : -1; /* -1: half of block -1's lines are the first rows */
    return (near){first, first, slots, 0, memory, memory + slots * block_floats(head->head_dim)};
}

/* One half of the lines of a block: from a block of pairs, or zeros without one. */
static void fill_half_lines(const float *pairs, ptrdiff_t D, float *keys, float *values)
{
    if (!pairs) {
        for (ptrdiff_t at = 0; at < D * WDT_LINE; at += WDT_LINE) {
            vec_store(keys + at, vec_set1(0.0f));
            vec_store(values + at, vec_set1(0.0f));
        }
        return;
    }
    WDT_UNROLL_BY_4
    for (ptrdiff_t at = 0; at < D * WDT_LINE; at += WDT_LINE) {
        vec_store(keys + at, vec_load(pairs + at));
        vec_store(values + at, vec_load(pairs + at + WDT_LANES));
    }
}

void near_move(const wdt_window *window, const prepared *rows, ptrdiff_t t, near *near)
{
    const wdt_head *const head = window->head;
    const ptrdiff_t T = window->T, block_size = block_floats(head->head_dim), tiles = tile_count(head, T);
    const ptrdiff_t ahead = t + 1 + (head->causal ? 0 : near_blocks(head, T));
    for (const ptrdiff_t end = ahead < tiles ? ahead : tiles; near->end < end;) {
        const ptrdiff_t block = near->end, at = near_append(near, head->head_dim);
        const float *const pairs = rows->pairs + block * block_size;
        fill_half_lines(block < 0 ? NULL : pairs, head->head_dim, near->keys + at, near->values + at);
        fill_half_lines(block + 1 < tiles ? pairs + block_size : NULL, head->head_dim, near->keys + at + WDT_LANES,
                        near->values + at + WDT_LANES);
    }
}

/* ---------------------------------------------------------------------------------------------- a tile's columns */

/* Lanes of the diagonal whose lane 0 is at p. */
static uint32_t lanes_of(ptrdiff_t p, ptrdiff_t T)
{
    return p >= 0 && p + WDT_LANES <= T ? WDT_ALL_LANES : lanes_within(p, 0, T);
}

/* Where dimension 0 of lane 0's row, position p, lies in the ring. Returns how far it is from the start of its line. */
static ptrdiff_t near_rows(const near *near, const wdt_head *head, ptrdiff_t p, float *rows[2])
{
    const size_t from = (size_t)(p - tiles_begin(head) + WDT_LANES); /* p >= 1 - WDT_LANES */
    const ptrdiff_t block = (ptrdiff_t)(from / WDT_LANES) - 1;
    const ptrdiff_t at = near_block(near, block, head->head_dim) + (ptrdiff_t)(from % WDT_LANES);
    rows[KEYS] = near->keys + at;
    rows[VALUES] = near->values + at;
    return (ptrdiff_t)(from % WDT_LANES);
}

/* A single diagonal, `stride` after the tile (or before, if negative): a multiple of WDT_LANES, or near. */
static void add_stride(const wdt_head *head, const prepared *rows, ptrdiff_t stride, tile *tile)
{
    column *const column = &tile->strides[tile->n_strides++];
    const ptrdiff_t p = tile->first + stride;
    if (stride % WDT_LANES == 0) {
        const ptrdiff_t block = (p - tiles_begin(head)) / WDT_LANES;
        column->rows[KEYS] = rows->pairs + block * block_floats(head->head_dim);
        column->rows[VALUES] = column->rows[KEYS] + WDT_LANES;
    } else {
        near_rows(tile->near, head, p, column->rows);
    }
    column->lanes = lanes_of(p, tile->T);
}

/* The window, and strides beyond it; only those that reach the sequence. */
static void collect_diagonals(const wdt_head *head, const prepared *rows, tile *tile)
{
    const ptrdiff_t T = tile->T, reach = head->dense ? T : head->window;
    const ptrdiff_t most_back = tile->first + WDT_LANES - 1, most_ahead = head->causal ? 0 : T - 1 - tile->first;
    const ptrdiff_t back = most_back < reach ? most_back : reach, ahead = most_ahead < reach ? most_ahead : reach;
    tile->p_last = tile->first + ahead;
    tile->window = ahead + back + 1;
    tile->n_strides = 0;
    for (ptrdiff_t stride = 1; head->log_stride && (stride <= most_back || stride <= most_ahead); stride *= 2) {
        if (stride > reach && stride <= most_back) {
            add_stride(head, rows, -stride, tile);
        }
        if (stride > reach && stride <= most_ahead) {
            add_stride(head, rows, stride, tile);
        }
    }
}

/* Only the gradient writes to what a column points at, and then into memory that is its own to write. */
static float *writable(const float *row)
{
    return (float *)(uintptr_t)row;
}

/* Lanes for which global token g is a candidate of its own. */
static uint32_t lanes_of_global(const wdt_head *head, ptrdiff_t g, ptrdiff_t first, ptrdiff_t T)
{
    uint32_t lanes = 0;
    if (first - g >= WDT_LANES && first - g > head->window) { /* behind all windows: at most one a power of two away */
        const unsigned long long farthest = (unsigned long long)(first - g + WDT_LANES - 1);
        const ptrdiff_t power = (ptrdiff_t)1 << (63 - __builtin_clzll(farthest));
        return WDT_ALL_LANES & ~(head->log_stride ? lanes_within(first, g + power, g + power + 1) : 0);
    }
    for (ptrdiff_t l = 0; l < WDT_LANES && g < T; l++) {
        if (wdt_global_is_single(head, g, first + l, T)) {
            lanes |= 1u << l;
        }
    }
    return lanes;
}

static void collect_globals(const wdt_window *window, tile *tile)
{
    const wdt_head *const head = window->head;
    for (int32_t k = 0; k < head->n_global_tokens && !head->dense; k++) {
        const ptrdiff_t g = head->global_tokens[k], row = (g * head->kv_heads + window->kv_head) * head->head_dim;
        const uint32_t lanes = tile->queries & lanes_of_global(head, g, tile->first, tile->T);
        if (lanes) {
            tile->shared[tile->n_shared++] = (column){{writable(window->k + row), writable(window->v + row)}, lanes};
        }
    }
}

static void add_landmark(const prepared *rows, ptrdiff_t D, ptrdiff_t block, uint32_t lanes, tile *tile)
{
    tile->shared[tile->n_shared++] = (column){{rows->mean_keys + block * D, rows->mean_values + block * D}, lanes};
}

/* Positions whose landmarks are the same stand together: runs of block_size of them. */
static void collect_landmarks(const wdt_head *head, const prepared *rows, tile *tile)
{
    const ptrdiff_t B = head->block_size, D = head->head_dim, end = tile->first + WDT_LANES;
    const ptrdiff_t last = end < tile->T ? end : tile->T, turn = head->causal ? 1 : 0;
    if (wdt_block_count(head, tile->T) == 0) {
        return;
    }
    for (ptrdiff_t i = tile->first < 0 ? 0 : tile->first, next; i < last; i = next) {
        wdt_candidates landmarks;
        const ptrdiff_t run = B - (i + turn) % B;
        next = last - i < run ? last : i + run;
        const uint32_t lanes = lanes_within(tile->first, i, next);
        wdt_landmark_candidates(head, i, tile->T, &landmarks);
        for (ptrdiff_t block = landmarks.begin; block < landmarks.end; block++) {
            add_landmark(rows, D, block, lanes, tile);
        }
        for (int s = 0; s < landmarks.n_singles; s++) {
            add_landmark(rows, D, landmarks.singles[s], lanes, tile);
        }
    }
}

void tile_collect(const wdt_window *window, const prepared *rows, const near *near, ptrdiff_t t, tile *tile)
{
    tile->near = near;
    tile->T = window->T;
    tile->first = tiles_begin(window->head) + t * WDT_LANES;
    tile->queries = lanes_within(tile->first, 0, tile->T);
    tile->n_shared = 0;
    collect_diagonals(window->head, rows, tile);
    collect_globals(window, tile);
    collect_landmarks(window->head, rows, tile);
    tile->n = tile->window + tile->n_strides + tile->n_shared;
}

void chunk_collect(const tile *tile, const wdt_head *head, ptrdiff_t begin, chunk *chunk)
{
    const ptrdiff_t diagonals = tile->window + tile->n_strides;
    const ptrdiff_t end = tile->n - begin < CHUNK ? tile->n : begin + CHUNK;
    column *at = chunk->columns;
    ptrdiff_t c = begin;
    uint32_t all = WDT_ALL_LANES;
    while (c < end && c < tile->window) {
        const ptrdiff_t p = tile->p_last - c;
        ptrdiff_t left = near_rows(tile->near, head, p, at->rows) + 1; /* columns whose rows are in the same lines */
        left = left < end - c ? left : end - c;
        left = left < tile->window - c ? left : tile->window - c;
        const int inside = p - left >= 0 && p + WDT_LANES <= tile->T;
        for (ptrdiff_t k = 0; k < left; k++) {
            at[k].rows[KEYS] = at->rows[KEYS] - k;
            at[k].rows[VALUES] = at->rows[VALUES] - k;
            at[k].lanes = inside ? WDT_ALL_LANES : lanes_of(p - k, tile->T);
            all &= at[k].lanes;
        }
        at += left;
        c += left;
    }
    for (; c < end && c < diagonals; c++, at++) {
        *at = tile->strides[c - tile->window];
        all &= at->lanes;
    }
    chunk->n_diagonals = (int)(at - chunk->columns);
    for (; c < end; c++, at++) {
        *at = tile->shared[c - diagonals];
        all &= at->lanes;
    }
    chunk->n = (int)(end - begin);
    chunk->is_masked = all != WDT_ALL_LANES;
}

void tile_load(const wdt_window *window, const tile *tile, const float *x, int h, int H, float *lanes)
{
    const ptrdiff_t Hq = window->head->q_heads, D = window->head->head_dim;
    const lane_rows rows = {Hq * D, tile->queries};
    for (int k = 0; k < H; k++) {
        for (ptrdiff_t d = 0; d < D; d += WDT_LANES) {
            load_lanes(x + (tile->first * Hq + h + k) * D + d, rows, D - d, lanes + (d * H + k) * WDT_LANES,
                       H * WDT_LANES);
        }
    }
}

void tile_store(const wdt_window *window, const tile *tile, const float *lanes, const vec *factors, int h, int H,
                float *x)
{
    const ptrdiff_t Hq = window->head->q_heads, D = window->head->head_dim;
    const lane_rows rows = {Hq * D, tile->queries};
    for (int k = 0; k < H; k++) {
        for (ptrdiff_t d = 0; d < D; d += WDT_LANES) {
            store_lanes(lanes + (d * H + k) * WDT_LANES, H * WDT_LANES, factors[k], D - d, rows,
                        x + (tile->first * Hq + h + k) * D + d);
        }
    }
}

/* ----------------------------------------------------------------------------------------- the two matrix products
 * Each has a kernel for N columns (or dimensions) of H heads at once, whose N * H sums live in registers. N and H are
 * constants wherever it is inlined, so the loops over them vanish; a switch chooses among the inlined forms. */

/* Up to 8: more pointers than that no longer fit the general registers. */
#define AT_ONCE(H) (WDT_ACCUMULATORS / (H) < 8 ? WDT_ACCUMULATORS / (H) : 8)

/* How many of `left` to take next, at most `most`: as even as can be, since few sums at once wait for each other. */
static inline int take(ptrdiff_t left, int most)
{
    const ptrdiff_t passes = (left + most - 1) / most;
    return (int)((left + passes - 1) / passes);
}

/* The row's dimension d: a lane each of a diagonal, or one number for all lanes. */
WDT_INLINE vec at_dimension(const float *row, ptrdiff_t d, int is_shared)
{
    return is_shared ? vec_set1(row[d]) : vec_load(row + d * WDT_LINE);
}

/* N columns that are `apart` columns apart. */
WDT_INLINE void dot_columns(const column *columns, int apart, int which, int is_shared, int N, int H, const float *x,
                            ptrdiff_t D, float scale, float *dots)
{
    const float *rows[8];
    vec sums[WDT_ACCUMULATORS];
    WDT_UNROLL
    for (int c = 0; c < N; c++) {
        rows[c] = columns[c * apart].rows[which];
        WDT_UNROLL
        for (int h = 0; h < H; h++) {
            sums[c * H + h] = vec_set1(0.0f);
        }
    }
    for (ptrdiff_t d = 0; d < D; d++) {
        vec q[MAX_HEADS];
        WDT_UNROLL
        for (int h = 0; h < H; h++) {
            q[h] = vec_load(x + (d * H + h) * WDT_LANES);
        }
        WDT_UNROLL
        for (int c = 0; c < N; c++) {
            const vec row = at_dimension(rows[c], d, is_shared);
            WDT_UNROLL
            for (int h = 0; h < H; h++) {
                sums[c * H + h] = vec_fma(q[h], row, sums[c * H + h]);
            }
        }
    }
    WDT_UNROLL
    for (int s = 0; s < N * H; s++) {
        vec_store(dots + (s / H * apart * H + s % H) * WDT_LANES, vec_mul(sums[s], vec_set1(scale)));
    }
}

/* Dimensions d .. d + N - 1 of what chunk_add() does. */
WDT_INLINE void add_dimensions(const chunk *chunk, int which, int N, int H, const float *weights, ptrdiff_t d,
                               const vec *rescale, float *sums)
{
    vec added[WDT_ACCUMULATORS];
    WDT_UNROLL
    for (int s = 0; s < N * H; s++) {
        added[s] = vec_set1(0.0f);
    }
    WDT_UNROLL
    for (int is_shared = 0; is_shared < 2; is_shared++) {
        const int begin = is_shared ? chunk->n_diagonals : 0, end = is_shared ? chunk->n : chunk->n_diagonals;
        for (int c = begin; c < end; c++) {
            const float *const row = chunk->columns[c].rows[which];
            vec weight[MAX_HEADS];
            WDT_UNROLL
            for (int h = 0; h < H; h++) {
                weight[h] = vec_load(weights + (c * H + h) * WDT_LANES);
            }
            WDT_UNROLL
            for (int j = 0; j < N; j++) {
                const vec value = at_dimension(row, d + j, is_shared);
                WDT_UNROLL
                for (int h = 0; h < H; h++) {
                    added[j * H + h] = vec_fma(weight[h], value, added[j * H + h]);
                }
            }
        }
    }
    WDT_UNROLL
    for (int j = 0; j < N; j++) {
        WDT_UNROLL
        for (int h = 0; h < H; h++) {
            float *const sum = sums + ((d + j) * H + h) * WDT_LANES;
            const vec old = rescale ? vec_mul(vec_load(sum), rescale[h]) : vec_set1(0.0f);
            vec_store(sum, vec_add(old, added[j * H + h]));
        }
    }
}

/* A pass takes columns from all over: those far away, which come last, are then spread over the passes, and their way
 * from the second-level cache is hidden behind the arithmetic on near ones. */
WDT_INLINE void dot_all(const column *columns, int which, int is_shared, int n, int H, const float *x, ptrdiff_t D,
                        float scale, float *dots)
{
    const int passes = (n + AT_ONCE(H) - 1) / AT_ONCE(H);
    for (int c = 0; c < passes; c++) {
        const int N = (n - c + passes - 1) / passes;
#define DOT(N, H) dot_columns(columns + c, passes, which, is_shared, N, H, x, D, scale, dots + c * H * WDT_LANES)
        switch (N) { WDT_CASES(H, AT_ONCE, DOT) }
#undef DOT
    }
}

void chunk_dot(const chunk *chunk, int which, const float *x, ptrdiff_t D, int H, float scale, float *dots)
{
    const int n = chunk->n_diagonals;
#define DOT_BOTH(H)                                                                    \
    dot_all(chunk->columns, which, 0, n, H, x, D, scale, dots);                        \
    dot_all(chunk->columns + n, which, 1, chunk->n - n, H, x, D, scale, dots + n * H * WDT_LANES);
    WDT_HEADS(H, DOT_BOTH)
#undef DOT_BOTH
}

void chunk_mask(const chunk *chunk, int H, float *scores)
{
    for (int c = 0; c < chunk->n && chunk->is_masked; c++) {
        for (int h = 0; h < H && chunk->columns[c].lanes != WDT_ALL_LANES; h++) {
            float *const at = scores + (c * H + h) * WDT_LANES;
            vec_store(at, vec_keep(vec_load(at), chunk->columns[c].lanes, vec_set1(-INFINITY)));
        }
    }
}

WDT_INLINE void add_all(const chunk *chunk, int which, const float *weights, ptrdiff_t D, int H, const vec *rescale,
                        float *sums)
{
    for (ptrdiff_t d = 0; d < D;) {
        const int N = take(D - d, AT_ONCE(H));
#define ADD(N, H) add_dimensions(chunk, which, N, H, weights, d, rescale, sums)
        switch (N) { WDT_CASES(H, AT_ONCE, ADD) }
#undef ADD
        d += N;
    }
}

void chunk_add(const chunk *chunk, int which, const float *weights, ptrdiff_t D, int H, const vec *rescale, float *sums)
{
#define ADD_ALL(H) add_all(chunk, which, weights, D, H, rescale, sums);
    WDT_HEADS(H, ADD_ALL)
#undef ADD_ALL
}
