/* The key/value cache of one sequence, and the step that appends to it and attends.
 *
 * Memory, in this order, each part contiguous per key/value head:
 *   landmarks   float32 [Hkv, blocks, planes, D]
 *   undo        float32 [Hkv, planes, D], only with landmarks
 *   tokens      float32 or float16 [Hkv, capacity, planes, D]
 * A key lies beside its value: a step reads few rows of many, far apart, and each costs one place in memory, not two.
 * Of a shared cache (planes = 1) the key is the value too.
 * The row of the block that is being filled holds a sum; when the block is complete it is divided once and is a mean.
 * Nothing is ever cleared: a block's first token overwrites its row. */
#include <math.h>
#include <string.h>

#include "checked.h"
#include "half.h"
#include "kernels.h"

/* Blocks that n tokens of this cache begin; a cache of a head without landmarks has none. */
static ptrdiff_t blocks_of(const wdt_cache *cache, ptrdiff_t n)
{
    return cache->blocks == 0 || n == 0 ? 0 : (n - 1) / cache->block_size + 1;
}

static size_t bytes_of(const wdt_cache *cache, ptrdiff_t capacity, ptrdiff_t blocks)
{
    const size_t row = wdt_product((size_t)cache->kv_heads, (size_t)cache->head_dim), planes = cache->planes;
    const size_t token = wdt_product(row, planes * wdt_number_bytes(cache->half));
    const size_t landmark = wdt_product(row, planes * sizeof(float));
    const size_t landmark_rows = blocks ? (size_t)blocks + 1 : 0; /* one more for undo */
    return wdt_sum(wdt_product(token, (size_t)capacity), wdt_product(landmark, landmark_rows));
}

/* A cache of this shape, without memory yet. */
static wdt_cache shape(const wdt_head *head, ptrdiff_t capacity, unsigned form)
{
    return (wdt_cache){
        .kv_heads = head->kv_heads,
        .head_dim = head->head_dim,
        .block_size = head->block_size,
        .half = (form & WDT_CACHE_HALF) != 0,
        .planes = form & WDT_CACHE_SHARED ? 1 : 2,
        .capacity = capacity,
        .blocks = wdt_block_count(head, capacity),
    };
}

size_t wdt_cache_bytes(const wdt_head *head, ptrdiff_t capacity, unsigned form)
{
    const wdt_cache cache = shape(head, capacity, form);
    return bytes_of(&cache, capacity, cache.blocks);
}

/* Points the arrays of a cache whose sizes are set into its memory. */
static void lay_out(wdt_cache *cache, void *memory)
{
    const size_t row = cache->planes * (size_t)cache->kv_heads * (size_t)cache->head_dim;
    cache->landmarks = memory;
    cache->undo = cache->landmarks + row * (size_t)cache->blocks;
    cache->tokens = cache->undo + (cache->blocks ? row : 0);
}

wdt_status wdt_cache_init(wdt_cache *cache, const wdt_head *head, ptrdiff_t capacity, unsigned form, void *memory)
{
    if (wdt_head_rule(head) || !head->causal || capacity < 1 || wdt_cache_bytes(head, capacity, form) == SIZE_MAX) {
        return WDT_E_CONFIG;
    }
    *cache = shape(head, capacity, form);
    lay_out(cache, memory);
    return WDT_OK;
}

size_t wdt_cache_copy_bytes(const wdt_cache *cache, ptrdiff_t capacity)
{
    return bytes_of(cache, capacity, blocks_of(cache, capacity));
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
    const size_t numbers = cache->planes * (size_t)cache->head_dim;
    const size_t row = numbers * sizeof(float), token = numbers * wdt_number_bytes(cache->half);
    const ptrdiff_t used_blocks = blocks_of(cache, cache->length);
    *copy = *cache;
    copy->capacity = capacity;
    copy->blocks = blocks_of(cache, capacity);
    lay_out(copy, memory);
    copy_rows(copy->tokens, capacity, cache->tokens, cache->capacity, cache->length, token, heads);
    copy_rows(copy->landmarks, copy->blocks, cache->landmarks, cache->blocks, used_blocks, row, heads);
    copy_rows(copy->undo, 1, cache->undo, 1, used_blocks > 0, row, heads);
}

int wdt_cache_fits(const wdt_cache *cache, const wdt_head *head)
{
    return head->causal && cache->kv_heads == head->kv_heads && cache->head_dim == head->head_dim &&
           cache->blocks == wdt_block_count(head, cache->capacity) &&
           (cache->blocks == 0 || cache->block_size == head->block_size);
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

/* Numbers from one token of a head to the next. */
static ptrdiff_t stride(const wdt_cache *cache)
{
    return (ptrdiff_t)cache->planes * cache->head_dim;
}

/* From a key to its value. */
static ptrdiff_t to_value(const wdt_cache *cache)
{
    return stride(cache) - cache->head_dim;
}

/* Where token t of head h lies: its key, and `which` = 1: its value. */
static void *token_at(const wdt_cache *cache, ptrdiff_t h, ptrdiff_t t, int which)
{
    const ptrdiff_t at = (h * cache->capacity + t) * stride(cache) + which * to_value(cache);
    return (char *)cache->tokens + (size_t)at * wdt_number_bytes(cache->half);
}

/* The same of a landmark. */
static float *landmark_at(const wdt_cache *cache, ptrdiff_t h, ptrdiff_t block, int which)
{
    return cache->landmarks + (h * cache->blocks + block) * stride(cache) + which * to_value(cache);
}

/* Head h's rows of both, as the kernels take them. */
static wdt_rows token_rows(const wdt_cache *cache, ptrdiff_t h)
{
    return (wdt_rows){token_at(cache, h, 0, 0), token_at(cache, h, 0, 1), stride(cache), cache->half};
}

static wdt_rows landmark_rows(const wdt_cache *cache, ptrdiff_t h)
{
    return (wdt_rows){landmark_at(cache, h, 0, 0), landmark_at(cache, h, 0, 1), stride(cache), 0};
}

/* Writes x [Hkv, D] as the keys (or values) of token t. */
static void store_token(const wdt_cache *cache, ptrdiff_t t, int which, const float *x)
{
    const ptrdiff_t D = cache->head_dim;
    for (ptrdiff_t h = 0; h < cache->kv_heads; h++, x += D) {
        void *const row = token_at(cache, h, t, which);
        if (cache->half) {
            wdt_kernels_in_use()->to_half(x, D, row);
        } else {
            memcpy(row, x, (size_t)D * sizeof *x);
        }
    }
}

/* Reads the keys (or values) of token t into x [Hkv, D]. */
static void load_token(const wdt_cache *cache, ptrdiff_t t, int which, float *x)
{
    const ptrdiff_t D = cache->head_dim;
    for (ptrdiff_t h = 0; h < cache->kv_heads; h++, x += D) {
        const void *const row = token_at(cache, h, t, which);
        if (cache->half) {
            for (ptrdiff_t d = 0; d < D; d++) {
                x[d] = wdt_half_to_float(((const uint16_t *)row)[d]);
            }
        } else {
            memcpy(x, row, (size_t)D * sizeof *x);
        }
    }
}

/* Adds x [Hkv, D] of token t to its block's keys (or values), keeping them as they were in undo. */
static void add_to_block(const wdt_cache *cache, ptrdiff_t t, int which, const float *x)
{
    const ptrdiff_t D = cache->head_dim, B = cache->block_size, block = t / B;
    const int first = t % B == 0, complete = t % B == B - 1;
    const float inverse = 1.0f / (float)B;
    for (ptrdiff_t h = 0; h < cache->kv_heads; h++, x += D) {
        float *const row = landmark_at(cache, h, block, which);
        float *const undo = cache->undo + h * stride(cache) + which * to_value(cache);
        for (ptrdiff_t d = 0; d < D; d++) {
            const float before = first ? 0.0f : row[d];
            const float sum = first ? x[d] : before + x[d];
            undo[d] = before;
            row[d] = complete ? sum * inverse : sum;
        }
    }
}

wdt_status wdt_cache_append(wdt_cache *cache, const float *k, const float *v)
{
    const ptrdiff_t t = cache->length, row = (ptrdiff_t)cache->kv_heads * cache->head_dim;
    if (t == cache->capacity) {
        return WDT_E_FULL;
    }
    const float *const rows[2] = {k, v};
    for (int which = 0; cache->half && which < cache->planes; which++) {
        if (!fits_half(rows[which], row)) {
            return WDT_E_HALF_RANGE;
        }
    }
    for (int which = 0; which < cache->planes; which++) {
        store_token(cache, t, which, rows[which]);
        if (cache->blocks) {
            add_to_block(cache, t, which, rows[which]);
        }
    }
    cache->length = t + 1;
    return WDT_OK;
}

void wdt_cache_undo(wdt_cache *cache)
{
    const ptrdiff_t row = stride(cache), t = --cache->length;
    for (ptrdiff_t h = 0; cache->blocks && h < cache->kv_heads; h++) {
        memcpy(landmark_at(cache, h, t / cache->block_size, 0), cache->undo + h * row, (size_t)row * sizeof(float));
    }
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
    const ptrdiff_t T = cache->length, D = cache->head_dim, group = head->q_heads / head->kv_heads;
    wdt_candidates tokens, landmarks;
    wdt_token_candidates(head, T - 1, T, &tokens);
    wdt_landmark_candidates(head, T - 1, T, &landmarks);
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
    prefetch((const char *)rows->keys + candidates->begin * row, (candidates->end - candidates->begin) * row);
    for (int s = 0; s < candidates->n_singles; s++) {
        prefetch((const char *)rows->keys + candidates->singles[s] * row, row);
    }
}

void wdt_cache_prefetch(const wdt_cache *cache, const wdt_head *head)
{
    const ptrdiff_t t = cache->length;
    wdt_candidates tokens, landmarks;
    if (t == cache->capacity || !wdt_cache_fits(cache, head) || head->dense) {
        return; /* nothing will be read, or more than a processor keeps */
    }
    wdt_token_candidates(head, t, t + 1, &tokens);
    wdt_landmark_candidates(head, t, t + 1, &landmarks);
    for (ptrdiff_t h = 0; h < cache->kv_heads; h++) {
        const wdt_rows of_tokens = token_rows(cache, h), of_landmarks = landmark_rows(cache, h);
        prefetch_rows(&of_tokens, &tokens);
        prefetch_rows(&of_landmarks, &landmarks);
    }
}

void wdt_cache_read(const wdt_cache *cache, ptrdiff_t position, float *key, float *value)
{
    load_token(cache, position, 0, key);
    load_token(cache, position, 1, value);
}
