/* What a policy is, and where the rows of a cache lie: for cache.c and the policies' own files, evict_*.c. */
#ifndef WDT_CACHE_H
#define WDT_CACHE_H

#include <string.h>

#include "attend.h"
#include "half.h"

/* What a policy does otherwise than the plain layout, where position p is row p and a full cache refuses. `place` is
 * NULL where nothing is: of wdt_refuse, and of wdt_h2o_compact, which leaves a plain cache behind. */
struct wdt_policy {
    uint8_t by_scores; /* what leaves is chosen by the caller's scores: wdt_step_with_scores() */

    size_t (*state_bytes)(ptrdiff_t capacity);                   /* a multiple of 8; SIZE_MAX if not addressable */
    ptrdiff_t (*rows)(const wdt_head *head, ptrdiff_t capacity); /* of tokens */
    void (*start)(wdt_cache *cache, const wdt_head *head);       /* writes the state of an empty cache */
    void (*clear)(wdt_cache *cache);                             /* the same again, of the same head */
    int (*fits)(const wdt_cache *cache, const wdt_head *head);   /* beyond what all caches have in common */
    int (*is_full)(const wdt_cache *cache);

    /* The row of position `length`, which is appended now; lets go of what has to leave. */
    ptrdiff_t (*place)(wdt_cache *cache);
    void (*undo)(wdt_cache *cache); /* NULL: a smaller length is all */

    ptrdiff_t (*held)(const wdt_cache *cache);
    void (*positions)(const wdt_cache *cache, int64_t *positions);
    ptrdiff_t (*row_of)(const wdt_cache *cache, ptrdiff_t position);
    ptrdiff_t (*used_rows)(const wdt_cache *cache); /* the first rows: what a copy needs */

    /* Rows that the query at position i reads; or else attend(), for a policy that has to know the weights. */
    void (*candidates)(const wdt_cache *cache, const wdt_head *head, ptrdiff_t i, wdt_candidates *tokens,
                       wdt_candidates *landmarks);
    void (*attend)(const wdt_head *head, wdt_cache *cache, const float *q, float *out);

    /* For states as bytes (saved.c), NULL where the state follows from the head. settle() does what waits for the next
     * append, after which no undo is possible. restore() makes a settled state from what cannot be worked out of bytes
     * that may be anyone's; 0 if no run has left them. */
    void (*settle)(wdt_cache *cache);
    int (*restore)(wdt_cache *cache);
};

/* Blocks whose means an evicting cache holds, the newest complete ones, are one fewer than it has rows for: the last is
 * for the block that is being filled. Its first token overwrites the row of a block that is no longer held even if that
 * token is taken back. */
static inline ptrdiff_t wdt_landmark_row(const wdt_cache *cache, ptrdiff_t block)
{
    return block % cache->blocks;
}

/* Numbers from one token of a head to the next. */
static inline ptrdiff_t wdt_cache_stride(const wdt_cache *cache)
{
    return (ptrdiff_t)cache->planes * cache->head_dim;
}

/* From a key to its value. */
static inline ptrdiff_t wdt_cache_to_value(const wdt_cache *cache)
{
    return wdt_cache_stride(cache) - cache->head_dim;
}

/* Where head h has a row of tokens: its key, and `which` = 1: its value. */
static inline void *wdt_token_at(const wdt_cache *cache, ptrdiff_t h, ptrdiff_t row, int which)
{
    const ptrdiff_t at = (h * cache->rows + row) * wdt_cache_stride(cache) + which * wdt_cache_to_value(cache);
    return (char *)cache->tokens + (size_t)at * wdt_number_bytes(cache->half);
}

/* The same of a landmark. */
static inline float *wdt_landmark_at(const wdt_cache *cache, ptrdiff_t h, ptrdiff_t row, int which)
{
    return cache->landmarks + (h * cache->blocks + row) * wdt_cache_stride(cache) + which * wdt_cache_to_value(cache);
}

/* WDT_OK if the cache can take k, v [Hkv, D], else why not. */
wdt_status wdt_cache_refusal(const wdt_cache *cache, const float *k, const float *v);

#endif
