/* The key/value cache of one sequence, and the step that appends to it and attends. What a full cache does is a
 * policy's: that of wdt_refuse is here, the others' are in evict_*.c.
 *
 * Memory, in this order, each part contiguous per key/value head:
 *   state       of an evicting policy
 *   landmarks   float32 [Hkv, blocks, planes, D]
 *   undo        float32 [Hkv, planes, D], only with landmarks
 *   tokens      float32 or float16 [Hkv, rows, planes, D]
 * A key lies beside its value: a step reads few rows of many, far apart, and each costs one place in memory, not two.
 * Of a shared cache (planes = 1) the key is the value too.
 * The row of the block that is being filled holds a sum; when the block is complete it is divided once and is a mean.
 * Nothing is ever cleared: a block's first token overwrites its row. */
#include "cache.h"

#include <math.h>

#include "checked.h"
#include "kernels.h"

const wdt_policy wdt_refuse = {0};

/* 1 if position p is row p. */
static int is_plain(const wdt_cache *cache)
{
    return cache->policy->place == NULL;
}

/* Rows of landmarks that n tokens of this cache begin; a cache of a head without landmarks has none. */
static ptrdiff_t blocks_of(const wdt_cache *cache, ptrdiff_t n)
{
    return cache->blocks == 0 || n == 0 ? 0 : (n - 1) / cache->block_size + 1;
}

static size_t state_bytes(const wdt_cache *cache)
{
    return is_plain(cache) ? 0 : cache->policy->state_bytes(cache->capacity);
}

static size_t bytes_of(const wdt_cache *cache)
{
    const size_t row = wdt_product((size_t)cache->kv_heads, (size_t)cache->head_dim), planes = cache->planes;
    const size_t token = wdt_product(row, planes * wdt_number_bytes(cache->half));
    const size_t landmark = wdt_product(row, planes * sizeof(float));
    const size_t landmark_rows = cache->blocks ? (size_t)cache->blocks + 1 : 0; /* one more for undo */
    const size_t rows = wdt_sum(wdt_product(token, (size_t)cache->rows), wdt_product(landmark, landmark_rows));
    return wdt_sum(state_bytes(cache), rows);
}

/* Sets the rows of tokens and landmarks of an evicting cache. 0 if there are too many. */
static int shape_ring(wdt_cache *cache, const wdt_head *head, ptrdiff_t landmark_blocks)
{
    const ptrdiff_t blocks = landmark_blocks ? landmark_blocks : WDT_DEFAULT_LANDMARK_BLOCKS;
    if (cache->capacity > WDT_MAX_EXTENT || blocks < 1 || blocks > WDT_MAX_EXTENT) {
        return 0;
    }
    cache->rows = cache->policy->rows(head, cache->capacity);
    cache->blocks = wdt_block_count(head, 1) ? blocks + 1 : 0;
    return 1;
}

/* A cache of this shape, without memory yet. 0 if there is none. */
static int shape(wdt_cache *cache, const wdt_head *head, const wdt_cache_config *config)
{
    const ptrdiff_t capacity = config->capacity;
    if (capacity < 1) {
        return 0;
    }
    *cache = (wdt_cache){
        .policy = config->policy ? config->policy : &wdt_refuse,
        .kv_heads = head->kv_heads,
        .head_dim = head->head_dim,
        .block_size = head->block_size,
        .half = (config->form & WDT_CACHE_HALF) != 0,
        .planes = config->form & WDT_CACHE_SHARED ? 1 : 2,
        .capacity = capacity,
        .rows = capacity,
        .blocks = wdt_block_count(head, capacity),
    };
    return is_plain(cache) || shape_ring(cache, head, config->landmark_blocks);
}

size_t wdt_cache_bytes(const wdt_head *head, const wdt_cache_config *config)
{
    wdt_cache cache;
    return shape(&cache, head, config) ? bytes_of(&cache) : SIZE_MAX;
}

/* Points the arrays of a cache whose sizes are set into its memory. */
static void lay_out(wdt_cache *cache, void *memory)
{
    const size_t row = (size_t)wdt_cache_stride(cache) * (size_t)cache->kv_heads;
    cache->state = memory;
    cache->landmarks = (float *)(void *)((char *)memory + state_bytes(cache));
    cache->undo = cache->landmarks + row * (size_t)cache->blocks;
    cache->tokens = cache->undo + (cache->blocks ? row : 0);
}

wdt_status wdt_cache_init(wdt_cache *cache, const wdt_head *head, const wdt_cache_config *config, void *memory)
{
    wdt_cache made;
    if (wdt_head_rule(head) || !head->causal || !shape(&made, head, config) || bytes_of(&made) == SIZE_MAX) {
        return WDT_E_CONFIG;
    }
    *cache = made;
    lay_out(cache, memory);
    if (!is_plain(cache)) {
        cache->policy->start(cache, head);
    }
    return WDT_OK;
}

/* The same cache with another capacity, without memory. */
static wdt_cache reshaped(const wdt_cache *cache, ptrdiff_t capacity)
{
    wdt_cache copy = *cache;
    if (is_plain(cache)) {
        copy.capacity = copy.rows = capacity;
        copy.blocks = blocks_of(cache, capacity);
    }
    return copy;
}

size_t wdt_cache_copy_bytes(const wdt_cache *cache, ptrdiff_t capacity)
{
    const wdt_cache copy = reshaped(cache, capacity);
    return bytes_of(&copy);
}

/* The first `used` rows of each head, from an array of from_rows a head to one of to_rows. */
static void copy_rows(void *to, ptrdiff_t to_rows, const void *from, ptrdiff_t from_rows, ptrdiff_t used, size_t row,
                      int32_t heads)
{
    for (int32_t h = 0; h < heads; h++) {
        memcpy((char *)to + (size_t)(h * to_rows) * row, (const char *)from + (size_t)(h * from_rows) * row,
               (size_t)used * row);
    }
}

void wdt_cache_copy(wdt_cache *copy, const wdt_cache *cache, ptrdiff_t capacity, void *memory)
{
    const int32_t heads = cache->kv_heads;
    const size_t numbers = (size_t)wdt_cache_stride(cache);
    const size_t row = numbers * sizeof(float), token = numbers * wdt_number_bytes(cache->half);
    const ptrdiff_t used = is_plain(cache) ? cache->length : cache->policy->used_rows(cache);
    const ptrdiff_t begun = blocks_of(cache, cache->length), blocks = begun < cache->blocks ? begun : cache->blocks;
    *copy = reshaped(cache, capacity);
    lay_out(copy, memory);
    memcpy(copy->state, cache->state, state_bytes(cache));
    copy_rows(copy->tokens, copy->rows, cache->tokens, cache->rows, used, token, heads);
    copy_rows(copy->landmarks, copy->blocks, cache->landmarks, cache->blocks, blocks, row, heads);
    copy_rows(copy->undo, 1, cache->undo, 1, blocks > 0, row, heads);
}

int wdt_cache_fits(const wdt_cache *cache, const wdt_head *head)
{
    return head->causal && cache->kv_heads == head->kv_heads && cache->head_dim == head->head_dim &&
           (is_plain(cache) ? cache->blocks == wdt_block_count(head, cache->capacity)
                            : (cache->blocks > 0) == wdt_block_count(head, 1) && cache->policy->fits(cache, head)) &&
           (cache->blocks == 0 || cache->block_size == head->block_size);
}

void wdt_cache_clear(wdt_cache *cache)
{
    cache->length = 0;
    if (!is_plain(cache)) {
        cache->policy->clear(cache);
    }
}

int wdt_cache_is_full(const wdt_cache *cache)
{
    return is_plain(cache) ? cache->length == cache->capacity : cache->policy->is_full(cache);
}

static int fits_half(const float *x, ptrdiff_t n)
{
    for (ptrdiff_t c = 0; c < n; c++) {
        if (!(fabsf(x[c]) < WDT_HALF_LIMIT)) {
            return 0;
        }
    }
    return 1;
}

/* Head h's rows of both, as the kernels take them. */
static wdt_rows token_rows(const wdt_cache *cache, ptrdiff_t h)
{
    return (wdt_rows){wdt_token_at(cache, h, 0, 0), wdt_token_at(cache, h, 0, 1), wdt_cache_stride(cache), cache->half,
                      cache->capacity + 1}; /* the ring of wdt_sliding, and beyond what a plain cache has */
}

static wdt_rows landmark_rows(const wdt_cache *cache, ptrdiff_t h)
{
    return (wdt_rows){wdt_landmark_at(cache, h, 0, 0), wdt_landmark_at(cache, h, 0, 1), wdt_cache_stride(cache), 0,
                      cache->blocks};
}

/* Writes x [Hkv, D] as the keys (or values) of this row. */
static void store_token(const wdt_cache *cache, ptrdiff_t row, int which, const float *x)
{
    const ptrdiff_t D = cache->head_dim;
    for (ptrdiff_t h = 0; h < cache->kv_heads; h++, x += D) {
        void *const to = wdt_token_at(cache, h, row, which);
        if (cache->half) {
            wdt_kernels_in_use()->to_half(x, D, to);
        } else {
            memcpy(to, x, (size_t)D * sizeof *x);
        }
    }
}

/* Reads the keys (or values) of this row into x [Hkv, D]. */
static void load_token(const wdt_cache *cache, ptrdiff_t row, int which, float *x)
{
    const ptrdiff_t D = cache->head_dim;
    for (ptrdiff_t h = 0; h < cache->kv_heads; h++, x += D) {
        const void *const from = wdt_token_at(cache, h, row, which);
        if (cache->half) {
            for (ptrdiff_t d = 0; d < D; d++) {
                x[d] = wdt_half_to_float(((const uint16_t *)from)[d]);
            }
        } else {
            memcpy(x, from, (size_t)D * sizeof *x);
        }
    }
}

/* Adds x [Hkv, D] of token t to its block's keys (or values), keeping them as they were in undo. */
static void add_to_block(const wdt_cache *cache, ptrdiff_t t, int which, const float *x)
{
    const ptrdiff_t D = cache->head_dim, B = cache->block_size, place = wdt_landmark_row(cache, t / B);
    const int first = t % B == 0, complete = t % B == B - 1;
    const float inverse = 1.0f / (float)B;
    for (ptrdiff_t h = 0; h < cache->kv_heads; h++, x += D) {
        float *const row = wdt_landmark_at(cache, h, place, which);
        float *const undo = cache->undo + h * wdt_cache_stride(cache) + which * wdt_cache_to_value(cache);
        for (ptrdiff_t d = 0; d < D; d++) {
            const float before = first ? 0.0f : row[d];
            const float sum = first ? x[d] : before + x[d];
            undo[d] = before;
            row[d] = complete ? sum * inverse : sum;
        }
    }
}

wdt_status wdt_cache_refusal(const wdt_cache *cache, const float *k, const float *v)
{
    const float *const rows[2] = {k, v};
    for (int which = 0; cache->half && which < cache->planes; which++) {
        if (!fits_half(rows[which], (ptrdiff_t)cache->kv_heads * cache->head_dim)) {
            return WDT_E_HALF_RANGE;
        }
    }
    return WDT_OK;
}

wdt_status wdt_cache_append(wdt_cache *cache, const float *k, const float *v)
{
    const ptrdiff_t t = cache->length;
    const float *const rows[2] = {k, v};
    const wdt_status refusal = wdt_cache_is_full(cache) ? WDT_E_FULL : wdt_cache_refusal(cache, k, v);
    if (refusal != WDT_OK) {
        return refusal;
    }
    const ptrdiff_t row = is_plain(cache) ? t : cache->policy->place(cache);
    for (int which = 0; which < cache->planes; which++) {
        store_token(cache, row, which, rows[which]);
        if (cache->blocks) {
            add_to_block(cache, t, which, rows[which]);
        }
    }
    cache->length = t + 1;
    return WDT_OK;
}

void wdt_cache_undo(wdt_cache *cache)
{
    const ptrdiff_t row = wdt_cache_stride(cache), t = --cache->length;
    for (ptrdiff_t h = 0; cache->blocks && h < cache->kv_heads; h++) {
        memcpy(wdt_landmark_at(cache, h, wdt_landmark_row(cache, t / cache->block_size), 0), cache->undo + h * row,
               (size_t)row * sizeof(float));
    }
    if (cache->policy->undo) {
        cache->policy->undo(cache);
    }
}

/* Rows that the query at position i reads. */
static void candidates_of(const wdt_cache *cache, const wdt_head *head, ptrdiff_t i, wdt_candidates *tokens,
                          wdt_candidates *landmarks)
{
    if (!is_plain(cache)) {
        cache->policy->candidates(cache, head, i, tokens, landmarks);
        return;
    }
    wdt_token_candidates(head, i, i + 1, tokens);
    wdt_landmark_candidates(head, i, i + 1, landmarks);
}

wdt_status wdt_step(const wdt_head *head, wdt_cache *cache, const float *q, const float *k, const float *v,
                    float *out)
{
    if (!wdt_cache_fits(cache, head)) {
        return WDT_E_CONFIG;
    }
    const wdt_status status = wdt_cache_append(cache, k, v);
    if (status != WDT_OK) {
        return status;
    }
    if (cache->policy->attend) {
        cache->policy->attend(head, cache, q, out);
        return WDT_OK;
    }
    const ptrdiff_t D = cache->head_dim, group = head->q_heads / head->kv_heads;
    wdt_candidates tokens, landmarks;
    candidates_of(cache, head, cache->length - 1, &tokens, &landmarks);
    for (ptrdiff_t h = 0; h < head->kv_heads; h++) {
        const wdt_rows of_tokens = token_rows(cache, h), of_landmarks = landmark_rows(cache, h);
        wdt_kernels_in_use()->attend(q + h * group * D, (int)group, (int)D, &of_tokens, &tokens, &of_landmarks,
                                     &landmarks, out + h * group * D);
    }
    return WDT_OK;
}

static void prefetch(const char *at, ptrdiff_t bytes)
{
    enum { LINE = 64 };
    for (ptrdiff_t b = 0; b < bytes; b += LINE) {
#if defined(__GNUC__)
        __builtin_prefetch(at + b);
#else
        (void)at;
#endif
    }
}

static void prefetch_rows(const wdt_rows *rows, const wdt_candidates *candidates)
{
    const ptrdiff_t row = rows->stride * (ptrdiff_t)wdt_number_bytes(rows->half); /* a token: key and value */
    const ptrdiff_t end = candidates->end < rows->ring ? candidates->end : rows->ring;
    prefetch((const char *)rows->keys + candidates->begin * row, (end - candidates->begin) * row);
    prefetch(rows->keys, (candidates->end - end) * row);
    for (int s = 0; s < candidates->n_singles; s++) {
        prefetch((const char *)rows->keys + candidates->singles[s] * row, row);
    }
}

void wdt_cache_prefetch(const wdt_cache *cache, const wdt_head *head)
{
    const ptrdiff_t t = cache->length;
    wdt_candidates tokens, landmarks;
    if (wdt_cache_is_full(cache) || !wdt_cache_fits(cache, head) || head->dense || cache->policy->attend) {
        return; /* nothing will be read, more than a processor keeps, or what is not known before */
    }
    candidates_of(cache, head, t, &tokens, &landmarks);
    for (ptrdiff_t h = 0; h < cache->kv_heads; h++) {
        const wdt_rows of_tokens = token_rows(cache, h), of_landmarks = landmark_rows(cache, h);
        prefetch_rows(&of_tokens, &tokens);
        prefetch_rows(&of_landmarks, &landmarks);
    }
}

ptrdiff_t wdt_cache_held(const wdt_cache *cache)
{
    return is_plain(cache) ? cache->length : cache->policy->held(cache);
}

void wdt_cache_positions(const wdt_cache *cache, int64_t *positions)
{
    if (!is_plain(cache)) {
        cache->policy->positions(cache, positions);
        return;
    }
    for (ptrdiff_t t = 0; t < cache->length; t++) {
        positions[t] = t;
    }
}

void wdt_cache_read(const wdt_cache *cache, ptrdiff_t position, float *key, float *value)
{
    const ptrdiff_t row = is_plain(cache) ? position : cache->policy->row_of(cache, position);
    load_token(cache, row, 0, key);
    load_token(cache, row, 1, value);
}
