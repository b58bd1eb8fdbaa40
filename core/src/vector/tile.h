/* A tile of the window pass and its columns, as prefill.c explains them: what the pass and its gradient share. */
#ifndef WDT_TILE_H
#define WDT_TILE_H

#include "layout.h"

#define near_begin WDT_NAME(near_begin)
#define near_move WDT_NAME(near_move)
#define tile_collect WDT_NAME(tile_collect)
#define tile_load WDT_NAME(tile_load)
#define tile_store WDT_NAME(tile_store)
#define chunk_collect WDT_NAME(chunk_collect)
#define chunk_dot WDT_NAME(chunk_dot)
#define chunk_mask WDT_NAME(chunk_mask)
#define chunk_add WDT_NAME(chunk_add)

#define MAX_HEADS 4 /* of a tile: with more, sums no longer fit the registers */
#define CHUNK 64    /* columns: the default head's all at once, and scores that fit the first-level cache */

/* One key/value head's rows, in `prepared` memory. */
typedef struct prepared {
    float *pairs;                   /* see layout.h */
    float *mean_keys, *mean_values; /* [blocks, D], blocks of block_size tokens */
} prepared;

static inline prepared prepared_of(const wdt_head *head, ptrdiff_t T, void *memory)
{
    const ptrdiff_t D = head->head_dim, pairs = tile_count(head, T) * block_floats(D);
    float *const at = align_up(memory);
    return (prepared){at, at + pairs, at + pairs + wdt_block_count(head, T) * D};
}

/* How many blocks before a tile's own (and after it, if not causal) the diagonals reach that are not in pairs: the
 * window, and strides of less than WDT_LANES. */
static inline ptrdiff_t near_blocks(const wdt_head *head, ptrdiff_t T)
{
    const ptrdiff_t window = head->dense || head->window > T ? T : head->window;
    return window < WDT_LANES ? 1 : (window - 1) / WDT_LANES + 1;
}

/* The window layout of what a tile sees near it: a ring of blocks that moves with the tiles, just large enough, so that
 * it stays in the first-level cache. */
typedef struct near {
    ptrdiff_t begin, end;  /* blocks held, counted as tiles are; at most `slots` */
    ptrdiff_t slots, slot; /* of the ring; where block `end` will go */
    float *keys, *values;  /* [slots][D] lines each */
} near;

static inline size_t near_slots(const wdt_head *head, ptrdiff_t T)
{
    return (size_t)near_blocks(head, T) * (head->causal ? 1 : 2) + 1;
}

/* Where a block that is held lies: floats after keys and values. */
static inline ptrdiff_t near_block(const near *near, ptrdiff_t block, ptrdiff_t D)
{
    const ptrdiff_t slot = near->slot - (near->end - block);
    return (slot < 0 ? slot + near->slots : slot) * block_floats(D);
}

/* Block `end`'s place. */
static inline ptrdiff_t near_append(near *near, ptrdiff_t D)
{
    const ptrdiff_t at = near->slot * block_floats(D);
    near->slot = near->slot + 1 == near->slots ? 0 : near->slot + 1;
    near->end++;
    near->begin = near->end - near->begin > near->slots ? near->end - near->slots : near->begin;
    return at;
}

/* What all lanes of a tile look at together: rows[KEYS] and rows[VALUES] are where lane 0's row begins, in a layout
 * (diagonals: dimensions WDT_LINE apart) or a row of its own (shared: dimensions beside each other). */
enum { KEYS, VALUES };

typedef struct column {
    float *rows[2];
    uint32_t lanes; /* those that see it */
} column;

/* Columns in this order: the window's diagonals, lane 0 at p_last, p_last - 1, ...; single diagonals; shared rows. */
typedef struct tile {
    const near *near;
    ptrdiff_t T, first; /* position of lane 0, -1 in a causal head's first tile */
    uint32_t queries;   /* lanes that are positions of the sequence */
    ptrdiff_t p_last, window;
    int n_strides, n_shared;
    ptrdiff_t n; /* columns in all */
    column strides[2 * WDT_INDEX_BITS]; /* each power of two, back and ahead */
    column shared[WDT_MAX_GLOBAL_TOKENS + WDT_LANES * (2 * WDT_INDEX_BITS + 2)]; /* landmarks: the same for each lane */
} tile;

/* Some of a tile's columns, diagonals first. */
typedef struct chunk {
    int n_diagonals, n;
    int is_masked; /* some column is not seen by all lanes */
    column columns[CHUNK];
} chunk;

/* Kernels are inlined with constants for the heads H and for N columns or dimensions at once; these choose among the
 * inlined forms. WDT_CASES are the cases 1 .. most(H), at most 8, of a switch: F(N, H) each. */
#define WDT_CASE(N, H, most, F) \
    case N:                     \
        if (N <= most(H))       \
            F(N, H);            \
        break;
#define WDT_CASES(H, most, F)                                                                                     \
    WDT_CASE(1, H, most, F) WDT_CASE(2, H, most, F) WDT_CASE(3, H, most, F) WDT_CASE(4, H, most, F)               \
    WDT_CASE(5, H, most, F) WDT_CASE(6, H, most, F) WDT_CASE(7, H, most, F) WDT_CASE(8, H, most, F)
#define WDT_HEADS(H, F) \
    switch (H) {        \
    case 1: F(1) break; \
    case 2: F(2) break; \
    case 3: F(3) break; \
    case 4: F(4) break; \
    }

/* How many of a group's heads the next pass over a tile takes, when `taken` are done: as even as can be. */
static inline int tile_heads(int group, int taken)
{
    const int left = group - taken, passes = (left + MAX_HEADS - 1) / MAX_HEADS;
    return (left + passes - 1) / passes;
}

/* An empty ring at `memory`, [slots][D] lines twice, for tiles from t on. */
near near_begin(const wdt_head *head, ptrdiff_t T, ptrdiff_t t, float *memory);

/* Moves the ring on to tile t, the one after the last one that it was moved to, or its first. */
void near_move(const wdt_window *window, const prepared *rows, ptrdiff_t t, near *near);

/* Finds the columns of tile t. */
void tile_collect(const wdt_window *window, const prepared *rows, const near *near, ptrdiff_t t, tile *tile);

/* lanes [D][H][WDT_LANES] of x [T, Hq, D], heads h .. h + H - 1, at the tile's positions; zeros elsewhere. */
void tile_load(const wdt_window *window, const tile *tile, const float *x, int h, int H, float *lanes);

/* The reverse of tile_load(), where the tile has queries, times factors [H]. */
void tile_store(const wdt_window *window, const tile *tile, const float *lanes, const vec *factors, int h, int H,
                float *x);

/* Columns begin .. begin + CHUNK - 1 of the tile, or as many as there are. */
void chunk_collect(const tile *tile, const wdt_head *head, ptrdiff_t begin, chunk *chunk);

/* dots [n][H][WDT_LANES] = scale * sum over d of x [D][H][WDT_LANES] * the columns' `which` rows. */
void chunk_dot(const chunk *chunk, int which, const float *x, ptrdiff_t D, int H, float scale, float *dots);

/* Minus infinity into scores [n][H][WDT_LANES] where a lane must not see a column. */
void chunk_mask(const chunk *chunk, int H, float *scores);

/* sums [D][H][WDT_LANES] = sums * rescale [H] + sum over columns of weights [n][H][WDT_LANES] * their `which` rows.
 * Without rescale the sums begin at zero. */
void chunk_add(const chunk *chunk, int which, const float *weights, ptrdiff_t D, int H, const vec *rescale,
               float *sums);

#endif
