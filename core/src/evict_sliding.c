/* wdt_sliding: the newest `capacity` tokens, and the global tokens beside them.
 *
 * Rows of tokens: a ring of capacity + 1, where position p is row p % (capacity + 1), and then one for each global
 * token in their order. A global token is copied to its own row when it leaves the newest `capacity`. With the one row
 * more than capacity, an append never overwrites what an undo of it brings back, so that nothing but the length has to
 * be undone. */
#include "evict.h"

static ptrdiff_t ring_of(const wdt_cache *cache)
{
    return cache->capacity + 1;
}

/* The oldest of the newest `capacity` tokens of `length`. */
static ptrdiff_t oldest_of(const wdt_cache *cache, ptrdiff_t length)
{
    return length > cache->capacity ? length - cache->capacity : 0;
}

static size_t state_bytes(ptrdiff_t capacity)
{
    (void)capacity;
    return (sizeof(wdt_keeping) + 7) / 8 * 8;
}

static ptrdiff_t rows(const wdt_head *head, ptrdiff_t capacity)
{
    return capacity + 1 + head->n_global_tokens;
}

static void start(wdt_cache *cache, const wdt_head *head)
{
    wdt_keeping_start(cache->state, head);
}

static void clear(wdt_cache *cache)
{
    (void)cache;
}

static int fits(const wdt_cache *cache, const wdt_head *head)
{
    return wdt_keeping_fits(cache->state, head);
}

static int is_full(const wdt_cache *cache)
{
    (void)cache;
    return 0;
}

static ptrdiff_t place(wdt_cache *cache)
{
    const ptrdiff_t t = cache->length, ring = ring_of(cache), leaves = t - cache->capacity;
    const int32_t global = leaves < 0 ? -1 : wdt_global_at(cache->state, leaves);
    const size_t bytes = (size_t)wdt_cache_stride(cache) * wdt_number_bytes(cache->half);
    for (int32_t h = 0; global >= 0 && h < cache->kv_heads; h++) {
        memcpy(wdt_token_at(cache, h, ring + global, 0), wdt_token_at(cache, h, leaves % ring, 0), bytes);
    }
    return t % ring;
}

static ptrdiff_t held(const wdt_cache *cache)
{
    const ptrdiff_t oldest = oldest_of(cache, cache->length);
    return cache->length - oldest + wdt_globals_below(cache->state, oldest);
}

static void positions(const wdt_cache *cache, int64_t *positions)
{
    const wdt_keeping *const keeping = cache->state;
    const ptrdiff_t oldest = oldest_of(cache, cache->length);
    for (int32_t g = 0; g < keeping->n_global_tokens && keeping->global_tokens[g] < oldest; g++) {
        *positions++ = keeping->global_tokens[g];
    }
    for (ptrdiff_t t = oldest; t < cache->length; t++) {
        *positions++ = t;
    }
}

/* The row of a position that is held beside the newest from `oldest` on, or -1. */
static ptrdiff_t row_beside(const wdt_cache *cache, ptrdiff_t position, ptrdiff_t oldest)
{
    if (position >= oldest) {
        return position % ring_of(cache);
    }
    const int32_t global = wdt_global_at(cache->state, position);
    return global < 0 ? -1 : ring_of(cache) + global;
}

static ptrdiff_t row_of(const wdt_cache *cache, ptrdiff_t position)
{
    return row_beside(cache, position, oldest_of(cache, cache->length));
}

static ptrdiff_t used_rows(const wdt_cache *cache)
{
    const ptrdiff_t ring = ring_of(cache), oldest = oldest_of(cache, cache->length);
    return cache->length < ring ? cache->length : ring + wdt_globals_below(cache->state, oldest);
}

/* The pattern's candidates as far as they are held, in the pattern's order: before anything has left, a step's bits are
 * those of a cache that refuses. A global token that is older than what is left of the window is single now. */
static void candidates(const wdt_cache *cache, const wdt_head *head, ptrdiff_t i, wdt_candidates *tokens,
                       wdt_candidates *landmarks)
{
    const ptrdiff_t oldest = oldest_of(cache, i + 1);
    wdt_token_candidates(head, i, i + 1, tokens);
    wdt_held_landmarks(cache, head, i, landmarks);
    int kept = 0;
    for (int s = 0; s < tokens->n_singles; s++) {
        const ptrdiff_t row = row_beside(cache, tokens->singles[s], oldest);
        if (row >= 0) {
            tokens->singles[kept++] = row;
        }
    }
    const int32_t below = tokens->begin < oldest ? wdt_globals_below(cache->state, oldest) : 0;
    for (int32_t g = below ? wdt_globals_below(cache->state, tokens->begin) : 0; g < below; g++) {
        tokens->singles[kept++] = ring_of(cache) + g;
    }
    const ptrdiff_t begin = tokens->begin > oldest ? tokens->begin : oldest;
    tokens->n_singles = kept;
    tokens->begin = begin % ring_of(cache);
    tokens->end = tokens->begin + (i + 1 - begin);
}

const wdt_policy wdt_sliding = {
    .state_bytes = state_bytes,
    .rows = rows,
    .start = start,
    .clear = clear,
    .fits = fits,
    .is_full = is_full,
    .place = place,
    .held = held,
    .positions = positions,
    .row_of = row_of,
    .used_rows = used_rows,
    .candidates = candidates,
};
