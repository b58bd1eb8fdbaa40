/* Where the window kernels keep a key/value head's rows: transposed, WDT_LANES neighbouring positions a vec.
 *
 * Positions are cut into blocks of WDT_LANES; block t holds the positions of tile t (prefill.c). Two layouts, both of
 * lines of 2 * WDT_LANES floats, so that a row's dimensions are WDT_LINE apart in either:
 *
 *   pairs  [blocks][D]            line d of block t: dimension d of its WDT_LANES keys, then of its values
 *   window [blocks][D], keys      line d of block b: dimension d of the rows of block b and of block b + 1
 *          [blocks][D], values
 *
 * Pairs are the whole sequence, shared by all threads. They serve distances that are a multiple of WDT_LANES. A window
 * is one thread's copy of the part around the tile that it is at, each row twice, so that WDT_LANES rows from any
 * position on are one load from one line (with 8 lanes a cache line), never two; it stays in the first-level cache.
 *
 * Positions outside the sequence are zeros. */
#ifndef WDT_LAYOUT_H
#define WDT_LAYOUT_H

#include "../checked.h"
#include "vector.h"
#include "wdt_attention.h"

#define WDT_LINE (2 * WDT_LANES) /* floats */
#define WDT_ALIGNMENT 64u        /* bytes, of lines: a cache line */

/* Floats from one block to the next: a line more than it has. Without it, the same dimension of blocks a power of two
 * apart, which log-stride is about, would have the same last address bits, and compete for the same places of the
 * first-level cache. */
static inline ptrdiff_t block_floats(ptrdiff_t D)
{
    return (D + 1) * WDT_LINE;
}

/* Position of lane 0 of tile and block 0. */
static inline ptrdiff_t tiles_begin(const wdt_head *head)
{
    return head->causal ? -1 : 0;
}

static inline ptrdiff_t tile_count(const wdt_head *head, ptrdiff_t T)
{
    return T == 0 ? 0 : (T - 1 - tiles_begin(head)) / WDT_LANES + 1;
}

/* Lanes l for which begin <= p + l < end. */
static inline uint32_t lanes_within(ptrdiff_t p, ptrdiff_t begin, ptrdiff_t end)
{
    const ptrdiff_t low = begin - p > 0 ? begin - p : 0, high = end - p < WDT_LANES ? end - p : WDT_LANES;
    return low >= high ? 0 : (1u << high) - (1u << low);
}

/* `at` rounded up to the alignment. */
static inline float *align_up(void *at)
{
    return (float *)(((uintptr_t)at + WDT_ALIGNMENT - 1) & ~(uintptr_t)(WDT_ALIGNMENT - 1));
}

/* WDT_LANES rows [D] that lie `stride` floats apart; those without their bit in `present` are not there. */
typedef struct lane_rows {
    ptrdiff_t stride;
    uint32_t present;
} lane_rows;

/* Both functions below where not all rows are there, or fewer dimensions than lanes are left: out of line, so that what
 * is common stays short. */
static __attribute__((noinline, unused)) void load_some_lanes(const float *x, lane_rows rows, ptrdiff_t n, float *to,
                                                              ptrdiff_t step)
{
    vec lanes[WDT_LANES];
    for (int l = 0; l < WDT_LANES; l++) {
        lanes[l] = rows.present >> l & 1u ? load_row(x + l * rows.stride, 0, n) : vec_set1(0.0f);
    }
    vec_transpose(lanes);
    for (ptrdiff_t j = 0; j < WDT_LANES && j < n; j++) {
        vec_store(to + j * step, lanes[j]);
    }
}

static __attribute__((noinline, unused)) void store_some_lanes(const float *from, ptrdiff_t step, vec factor,
                                                               ptrdiff_t n, lane_rows rows, float *x)
{
    vec lanes[WDT_LANES];
    for (ptrdiff_t j = 0; j < WDT_LANES; j++) {
        lanes[j] = j < n ? vec_mul(vec_load(from + j * step), factor) : vec_set1(0.0f);
    }
    vec_transpose(lanes);
    for (int l = 0; l < WDT_LANES; l++) {
        if (rows.present >> l & 1u) {
            store_row(x + l * rows.stride, 0, n, lanes[l]);
        }
    }
}

/* The first WDT_LANES of the n dimensions of the rows at x, or as many as there are, transposed: lane l of to[j * step]
 * is dimension j of row l. Rows that are not there are zeros. */
WDT_INLINE void load_lanes(const float *x, lane_rows rows, ptrdiff_t n, float *to, ptrdiff_t step)
{
    if (rows.present != WDT_ALL_LANES || n < WDT_LANES) {
        load_some_lanes(x, rows, n, to, step);
        return;
    }
    vec lanes[WDT_LANES];
    WDT_UNROLL
    for (int l = 0; l < WDT_LANES; l++, x += rows.stride) {
        lanes[l] = vec_load(x);
    }
    vec_transpose(lanes);
    WDT_UNROLL
    for (int j = 0; j < WDT_LANES; j++, to += step) {
        vec_store(to, lanes[j]);
    }
}

/* The reverse, with all of a lane times its factor. Rows that are not there are not written. */
WDT_INLINE void store_lanes(const float *from, ptrdiff_t step, vec factor, ptrdiff_t n, lane_rows rows, float *x)
{
    if (rows.present != WDT_ALL_LANES || n < WDT_LANES) {
        store_some_lanes(from, step, factor, n, rows, x);
        return;
    }
    vec lanes[WDT_LANES];
    WDT_UNROLL
    for (int j = 0; j < WDT_LANES; j++, from += step) {
        lanes[j] = vec_mul(vec_load(from), factor);
    }
    vec_transpose(lanes);
    WDT_UNROLL
    for (int l = 0; l < WDT_LANES; l++, x += rows.stride) {
        vec_store(x, lanes[l]);
    }
}

#endif
