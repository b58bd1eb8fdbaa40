/* Sparse and dense attention over one sequence: the pattern, the window pass, the key/value cache and its step.
 *
 * What this is: the whole arithmetic of the temporal head, in float32. The scalar kernels are the reference; those for
 * chips (core/src/portable.c, integer.c) and for vector units (core/src/vector) are held against them. Which of them
 * runs: wdt_kernels.h.
 * What it is not: it owns no memory, starts no thread, and leaves the check for NaN (wdt_first_unusable) to callers.
 *
 * Axis letters, here as in Python and in docs/semantics.md:
 *   T  positions of a sequence      Hq  query heads      Hkv  key/value heads      D  head_dim      B  block_size
 * Query head h reads key/value head h / (Hq / Hkv). All arrays are float32, C order, without padding.
 */
#ifndef WDT_ATTENTION_H
#define WDT_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

#include "wdt_status.h"

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "compile the core without -ffast-math: its checks for NaN and its compensated sums would be optimised away"
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define WDT_MAX_GLOBAL_TOKENS 64   /* they sit inside wdt_head, so that a head is one flat value */
#define WDT_MAX_EXTENT (1 << 30)   /* of window, block_size, head_dim, heads and global tokens */

/* Inputs beyond this are refused as infinity is: by callers with wdt_first_unusable(), by a model of its activations.
 * No measurement comes near it, and within it no score, sum or mean of a window pass or a step overflows: finite in,
 * finite out.
 * In a gradient, products of three inputs can. */
#define WDT_MAX_VALUE 1e12f

/* The head of the AETHER model, and what a blob without a pattern record runs with. */
#define WDT_DEFAULT_Q_HEADS 4
#define WDT_DEFAULT_KV_HEADS 1
#define WDT_DEFAULT_HEAD_DIM 32
#define WDT_DEFAULT_WINDOW 32
#define WDT_DEFAULT_BLOCK_SIZE 16
#define WDT_DEFAULT_GLOBAL_TOKEN 0

typedef struct wdt_head {
    int32_t q_heads, kv_heads, head_dim; /* Hq, Hkv, D: all > 0, Hq a multiple of Hkv */
    int32_t window;                      /* >= 0: this many positions before (non-causal: and after) the query */
    int32_t block_size;                  /* >= 1: tokens a landmark stands for */
    int32_t n_global_tokens;             /* entries used of global_tokens */
    int32_t global_tokens[WDT_MAX_GLOBAL_TOKENS]; /* strictly ascending, >= 0 */
    uint8_t dense;                       /* 1: every (earlier) token is a candidate; only the heads and causal count */
    uint8_t causal, log_stride, landmarks; /* switches, 0 or 1 */
} wdt_head;

/* The default head of the macros above: sparse, causal, both switches on. */
wdt_head wdt_head_default(void);

/* NULL if the head is valid, else the rule that it breaks, as a sentence for a person. */
const char *wdt_head_rule(const wdt_head *head);

/* ------------------------------------------------------------------------------------------------ the pattern
 * A query's candidates are one interval and some single positions, powers of two away or global. They are written
 * down so, without overlap: each candidate once, and no set is needed. */
#define WDT_INDEX_BITS ((int)(8 * sizeof(ptrdiff_t) - 1))
#define WDT_MAX_SINGLES (2 * WDT_INDEX_BITS + WDT_MAX_GLOBAL_TOKENS)

typedef struct wdt_candidates {
    ptrdiff_t begin, end; /* the interval [begin, end) */
    int n_singles;
    ptrdiff_t singles[WDT_MAX_SINGLES]; /* outside the interval, in no order */
} wdt_candidates;

/* Token candidates of the query at position i of a sequence of T, 0 <= i < T: positions in [0, T).
 * A causal head's answer does not depend on T. */
void wdt_token_candidates(const wdt_head *head, ptrdiff_t i, ptrdiff_t T, wdt_candidates *tokens);

/* Landmark candidates of the same query: block indices. None where landmarks are off or the head is dense. */
void wdt_landmark_candidates(const wdt_head *head, ptrdiff_t i, ptrdiff_t T, wdt_candidates *landmarks);

/* Blocks that n tokens begin, the last of which may be partial; 0 where landmarks are off or the head is dense. */
ptrdiff_t wdt_block_count(const wdt_head *head, ptrdiff_t n);

/* Number of (query, candidate) pairs per query head over a sequence of T. O(T log T). */
int64_t wdt_edge_count(const wdt_head *head, ptrdiff_t T);

/* ------------------------------------------------------------------------------------------------ window pass
 * A window pass is Hkv independent parts, one a key/value head. A part is prepared, then attended; either may be cut
 * into `shares` that several threads take, all of the first before any of the second. The cut changes no bit. */
typedef struct wdt_window {
    const wdt_head *head;
    ptrdiff_t T;
    int32_t kv_head;        /* the part: this key/value head, and the query heads that read it */
    const float *q, *k, *v; /* [T, Hq, D], [T, Hkv, D], [T, Hkv, D] */
    float *out;             /* [T, Hq, D], overlaps none of the others */
    float *log_sum;         /* [T, Hq]: log of the softmax's sum of exp(score), which the gradient needs; or NULL */
    void *prepared;         /* wdt_window_prepared_bytes(), aligned for float: written by prepare, read by attend */
} wdt_window;

/* Both are SIZE_MAX if not addressable. Scratch is one thread's own. */
size_t wdt_window_prepared_bytes(const wdt_head *head, ptrdiff_t T);
size_t wdt_window_scratch_bytes(const wdt_head *head, ptrdiff_t T);

/* Lays this head's keys, values and block means out in `prepared`; then writes the part's rows of out and log_sum.
 * 0 <= share < shares. */
void wdt_window_prepare(const wdt_window *window, int share, int shares);
void wdt_window_attend(const wdt_window *window, int share, int shares, void *scratch);

/* All parts, one after the other, in one thread: out [T, Hq, D] of q [T, Hq, D] and k, v [T, Hkv, D].
 * scratch: wdt_forward_scratch_bytes(), aligned for float. T == 0 is fine and writes nothing. */
size_t wdt_forward_scratch_bytes(const wdt_head *head, ptrdiff_t T);
void wdt_forward(const wdt_head *head, ptrdiff_t T, const float *q, const float *k, const float *v, float *out,
                 void *scratch);

/* The gradient of a part: with d_out [T, Hq, D] the loss's gradient by out, writes the part's rows of dq [T, Hq, D] and
 * dk, dv [T, Hkv, D]. out and log_sum are the forward pass's and are read; `prepared` is not used. Scores are computed
 * again, so memory is O(T). Exact: the derivative of the formula in docs/semantics.md, block means included. */
size_t wdt_window_backward_bytes(const wdt_head *head, ptrdiff_t T);
void wdt_window_backward(const wdt_window *window, const float *d_out, float *dq, float *dk, float *dv, void *scratch);

/* ------------------------------------------------------------------------------------------------ cache, step */

/* How a cache keeps its rows: the sum of those that hold. */
enum {
    WDT_CACHE_HALF = 1,  /* rows are float16; sums, means and all arithmetic stay float32 */
    WDT_CACHE_SHARED = 2 /* a token's value is its key, and stands once; of a step's k and v, v is not read */
};

/* What a cache that holds `capacity` tokens does with the next one; docs/semantics.md defines each. A program links
 * those that it names, and wdt_refuse.
 *   wdt_refuse        WDT_E_FULL
 *   wdt_sliding       keeps the newest `capacity` tokens, and the global ones beside them
 *   wdt_heavy_hitter  lets go of the token that has received the least attention
 *   wdt_h2o_compact   lets go of the one with the least of the caller's scores, and renumbers:
 *                     wdt_step_with_scores() */
typedef struct wdt_policy wdt_policy;
extern const wdt_policy wdt_refuse, wdt_sliding, wdt_heavy_hitter, wdt_h2o_compact;

#define WDT_DEFAULT_LANDMARK_BLOCKS 4096

/* What a cache is. Of the fields, only capacity has to be set. */
typedef struct wdt_cache_config {
    ptrdiff_t capacity;        /* tokens, > 0 */
    const wdt_policy *policy;  /* NULL: wdt_refuse */
    ptrdiff_t landmark_blocks; /* wdt_sliding and wdt_heavy_hitter keep the means of so many complete blocks, the
                                * newest; 0: WDT_DEFAULT_LANDMARK_BLOCKS */
    unsigned form;             /* of WDT_CACHE_HALF and WDT_CACHE_SHARED */
} wdt_cache_config;

/* Keys and values of one sequence, and the means of its blocks, in the caller's memory. Fields are for reading. */
typedef struct wdt_cache {
    const wdt_policy *policy;
    int32_t kv_heads, head_dim, block_size;
    uint8_t half;       /* WDT_CACHE_HALF */
    uint8_t planes;     /* rows of a token, and of a landmark: 2, a key and its value, or 1 with WDT_CACHE_SHARED */
    ptrdiff_t capacity; /* tokens */
    ptrdiff_t length;   /* the next token's position: of tokens appended, not of those held (wdt_cache_held) */
    ptrdiff_t rows;     /* of `tokens`: `capacity`, or with an evicting policy a few more */
    ptrdiff_t blocks;   /* rows of `landmarks`, a ring with an evicting policy; 0 without landmarks */
    void *state;      /* what an evicting policy remembers; no pointer is in it */
    void *tokens;     /* [Hkv, rows, planes, D] float32 or float16: a key and its value beside each other */
    float *landmarks; /* [Hkv, blocks, planes, D]: means of complete blocks, a sum in the last */
    float *undo;      /* [Hkv, planes, D]: that last block as it was before the newest append */
} wdt_cache;

/* Bytes of memory for a cache of this head, SIZE_MAX if not addressable. The head is valid and causal. */
size_t wdt_cache_bytes(const wdt_head *head, const wdt_cache_config *config);

/* Lays an empty cache out in `memory`: wdt_cache_bytes() of them, aligned for float, or with wdt_sliding and
 * wdt_heavy_hitter for any type. The caller keeps it alive and does not have to clear it.
 * WDT_E_CONFIG: an invalid or non-causal head, or sizes that no cache has. */
wdt_status wdt_cache_init(wdt_cache *cache, const wdt_head *head, const wdt_cache_config *config, void *memory);

/* Makes `copy` a cache of `capacity` tokens that holds what `cache` holds: `capacity` is at least 1 and cache->length,
 * and of wdt_sliding and wdt_heavy_hitter it is cache->capacity. `memory` is of wdt_cache_copy_bytes() and need not be
 * cleared; what is written into it follows from what has been appended. Takes time in proportion to what is held. */
size_t wdt_cache_copy_bytes(const wdt_cache *cache, ptrdiff_t capacity);
void wdt_cache_copy(wdt_cache *copy, const wdt_cache *cache, ptrdiff_t capacity, void *memory);

/* 1 if a cache made for another head can serve this one: same kv_heads, head_dim and blocks, and of wdt_sliding and
 * wdt_heavy_hitter the same window and global tokens. */
int wdt_cache_fits(const wdt_cache *cache, const wdt_head *head);

/* Forgets every token. */
void wdt_cache_clear(wdt_cache *cache);

/* 1 if the next append will be refused with WDT_E_FULL. An evicting policy only has that where every token held is
 * global. */
int wdt_cache_is_full(const wdt_cache *cache);

/* Appends k, v [Hkv, D] as position `length`, then attends: out [Hq, D] for q [Hq, D]. Equals row `length` of
 * wdt_forward over the whole sequence (bit for bit with the scalar kernels, else within rounding), and once tokens have
 * left, that row with its candidates restricted to what is held.
 * O(window + log T), dense O(T); wdt_heavy_hitter O(window + log T log capacity), dense O(capacity log capacity).
 * Nothing in it grows with capacity otherwise, or is cleared. out overlaps none of the others.
 * WDT_E_FULL, WDT_E_HALF_RANGE, WDT_E_CONFIG (head and cache do not fit): the cache is as it was, byte for byte. */
wdt_status wdt_step(const wdt_head *head, wdt_cache *cache, const float *q, const float *k, const float *v,
                    float *out);

/* The step of a wdt_h2o_compact cache: scores [length] say which token leaves if `capacity` are held, in O(capacity).
 * The refusals are a step's, and WDT_E_CONFIG for a cache of another policy. */
wdt_status wdt_step_with_scores(const wdt_head *head, wdt_cache *cache, const float *q, const float *k, const float *v,
                                const float *scores, float *out);

/* The first half of a step: appends, and attends to nothing, so that no weight is received. WDT_E_FULL,
 * WDT_E_HALF_RANGE as a step. */
wdt_status wdt_cache_append(wdt_cache *cache, const float *k, const float *v);

/* Asks the processor for the memory that the next step on this cache will read: worth its while when the caches of many
 * tracks are stepped in turn, and one is asked for while the one before it is stepped. Changes nothing. */
void wdt_cache_prefetch(const wdt_cache *cache, const wdt_head *head);

/* Takes the newest append back, and what has left for it. Once after each append; a second call in a row is the
 * caller's error, as is one after a wdt_step_with_scores() that has let go of a token. */
void wdt_cache_undo(wdt_cache *cache);

/* Tokens held, and their positions: ascending, but for wdt_heavy_hitter, which has them in no order. */
ptrdiff_t wdt_cache_held(const wdt_cache *cache);
void wdt_cache_positions(const wdt_cache *cache, int64_t *positions);

/* Copies token `position`'s key and value, [Hkv, D] each, out of the cache as float32. The token is held. */
void wdt_cache_read(const wdt_cache *cache, ptrdiff_t position, float *key, float *value);

/* Index of the first number in x [n] that is NaN, infinite or beyond +-WDT_MAX_VALUE; -1 if there is none. */
ptrdiff_t wdt_first_unusable(const float *x, size_t n);

#ifdef __cplusplus
}
#endif
#endif
