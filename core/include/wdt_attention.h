/* Sparse and dense attention over one sequence: the pattern, the window pass, the key/value cache and its step.
 *
 * What this is: the whole arithmetic of the temporal head, in float32. The scalar kernels are the reference; those for
 * chips (core/src/portable.c, integer.c) and for vector units (core/src/vector) are held against them. Which of them runs: wdt_kernels.h.
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
 * No measurement comes near it, and within it no score, sum or mean of a window pass or a step overflows: finite in, finite out.
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

/* Keys and values of one sequence, and the means of its blocks, in the caller's memory. Fields are for reading. */
typedef struct wdt_cache {
    int32_t kv_heads, head_dim, block_size;
    uint8_t half;       /* WDT_CACHE_HALF */
    uint8_t planes;     /* rows of a token, and of a landmark: 2, a key and its value, or 1 with WDT_CACHE_SHARED */
    ptrdiff_t capacity; /* tokens */
    ptrdiff_t length;   /* tokens held, which is also the next token's position */
    ptrdiff_t blocks;   /* rows of the landmark arrays: ceil(capacity / B), 0 without landmarks */
    void *tokens;     /* [Hkv, capacity, planes, D] float32 or float16: a key and its value beside each other */
    float *landmarks; /* [Hkv, blocks, planes, D]: means of complete blocks, a sum in the last */
    float *undo;      /* [Hkv, planes, D]: that last block as it was before the newest append */
} wdt_cache;

/* Bytes of memory for a cache of this head, SIZE_MAX if not addressable. capacity > 0; the head is causal.
 * form: WDT_CACHE_HALF, WDT_CACHE_SHARED, both or 0. */
size_t wdt_cache_bytes(const wdt_head *head, ptrdiff_t capacity, unsigned form);

/* Lays an empty cache out in `memory` (wdt_cache_bytes() of them, aligned for float), which the caller keeps alive
 * and does not have to clear. WDT_E_CONFIG: an invalid or non-causal head, or capacity <= 0. */
wdt_status wdt_cache_init(wdt_cache *cache, const wdt_head *head, ptrdiff_t capacity, unsigned form, void *memory);

/* Makes `copy` a cache of `capacity` tokens, at least 1 and cache->length, that holds what `cache` holds. `memory` is of
 * wdt_cache_copy_bytes() and need not be cleared. Takes time in proportion to what is held. */
size_t wdt_cache_copy_bytes(const wdt_cache *cache, ptrdiff_t capacity);
void wdt_cache_copy(wdt_cache *copy, const wdt_cache *cache, ptrdiff_t capacity, void *memory);

/* 1 if a cache made for another head can serve this one: same kv_heads, head_dim and blocks. */
int wdt_cache_fits(const wdt_cache *cache, const wdt_head *head);

/* Appends k, v [Hkv, D] as position `length`, then attends: out [Hq, D] for q [Hq, D]. Equals row `length` of
 * wdt_forward over the whole sequence (bit for bit with the scalar kernels, else within rounding).
 * O(window + log T), dense O(T): nothing in it grows with capacity or is cleared.
 * out overlaps none of the others.
 * WDT_E_FULL, WDT_E_HALF_RANGE, WDT_E_CONFIG (head and cache do not fit): the cache is as it was, byte for byte. */
wdt_status wdt_step(const wdt_head *head, wdt_cache *cache, const float *q, const float *k, const float *v,
                    float *out);

/* The first half of a step: appends, and attends to nothing. WDT_E_FULL, WDT_E_HALF_RANGE as a step. */
wdt_status wdt_cache_append(wdt_cache *cache, const float *k, const float *v);

/* Asks the processor for the memory that the next step on this cache will read: worth its while when the caches of many
 * tracks are stepped in turn, and one is asked for while the one before it is stepped. Changes nothing. */
void wdt_cache_prefetch(const wdt_cache *cache, const wdt_head *head);

/* Takes the newest append back. Once after each append; a second call in a row is the caller's error. */
void wdt_cache_undo(wdt_cache *cache);

/* Copies token `position`'s key and value, [Hkv, D] each, out of the cache as float32. 0 <= position < length. */
void wdt_cache_read(const wdt_cache *cache, ptrdiff_t position, float *key, float *value);

/* Index of the first number in x [n] that is NaN, infinite or beyond +-WDT_MAX_VALUE; -1 if there is none. */
ptrdiff_t wdt_first_unusable(const float *x, size_t n);

#ifdef __cplusplus
}
#endif
#endif
