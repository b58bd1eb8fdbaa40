/* Where the window kernels keep a key/value head's rows: transposed, WDT_LANES neighbouring positions a vec.
 *
 * Positions are cut into blocks of WDT_LANES; block t holds the positions of tile t (prefill.c). Two layouts, both of
 * lines of 2 * WDT_LANES floats, so that a row's dimensions are WDT_LINE apart in either:
 *
 *   pairs  [blocks][D]            line d of block t: dimension d of its WDT_LANES keys, then of its values
 *   window [blocks][D], keys      line d of block b: dimension d of the rows of block b and of block b + 1
 *          [blocks][D], values
 *
 * Pairs are the whole sequence, shared by all threads. They serve distances that are a multiple of WDT_LANES. A window is
 * one thread's copy of the part around the tile that it is at, each row twice, so that WDT_LANES rows from any position
 * on are one load from one line (with 8 lanes a cache line), never two; it stays in the first-level cache.
 *
 * Positions outside the sequence are zeros. */
#ifndef WDT_LAYOUT_H
#define WDT_LAYOUT_H

#include "../checked.h"
#include "vector.h"
#include "wdt_attention.h"

#define WDT_LINE (2 * WDT_LANES) /* floats */
#define WDT_ALIGNMENT 64u        /* bytes, of lines: a cache line */

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

/* Dimensions d .. of the rows at x, as vecs along the rows: lanes[j] is dimension d + j. Rows that are not there are
 * zeros. Returns how many dimensions there are, at most WDT_LANES. */
static inline ptrdiff_t load_lanes(const float *x, lane_rows rows, ptrdiff_t d, ptrdiff_t D, vec lanes[WDT_LANES])
{
    if (rows.present == WDT_ALL_LANES && D - d >= WDT_LANES) {
        WDT_UNROLL
        for (int l = 0; l < WDT_LANES; l++) {
            lanes[l] = vec_load(x + l * rows.stride + d);
        }
    } else {
        for (int l = 0; l < WDT_LANES; l++) {
            lanes[l] = rows.present >> l & 1u ? load_row(x + l * rows.stride, d, D) : vec_set1(0.0f);
        }
    }
    vec_transpose(lanes);
    return D - d < WDT_LANES ? D - d : WDT_LANES;
}

/* The reverse: rows that are not there are not written. Overwrites lanes. */
static inline void store_lanes(float *x, lane_rows rows, ptrdiff_t d, ptrdiff_t D, vec lanes[WDT_LANES])
{
    vec_transpose(lanes);
    if (rows.present == WDT_ALL_LANES && D - d >= WDT_LANES) {
        WDT_UNROLL
        for (int l = 0; l < WDT_LANES; l++) {
            vec_store(x + l * rows.stride + d, lanes[l]);
        }
        return;
    }
    for (int l = 0; l < WDT_LANES; l++) {
        if (rows.present >> l & 1u) {
            store_row(x + l * rows.stride, d, D, lanes[l]);
        }
    }
}

#endif
