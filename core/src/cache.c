/* The key/value cache of one sequence, and the step that appends to it and attends.
 *
 * Memory, in this order, each part per key/value head and contiguous:
 *   landmark keys, landmark values   float32 [Hkv, blocks, D]
 *   undo keys, undo values           float32 [Hkv, D], only with landmarks
 *   keys, values                     float32 or float16 [Hkv, capacity, D]
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

static size_t bytes_of(int32_t kv_heads, int32_t head_dim, ptrdiff_t capacity, ptrdiff_t blocks, int half)
{
    const size_t row = wdt_product((size_t)kv_heads, (size_t)head_dim);
    const size_t token = wdt_product(row, 2 * wdt_number_bytes(half));
    const size_t landmark = wdt_product(row, 2 * sizeof(float));
    const size_t landmark_rows = blocks ? (size_t)blocks + 1 : 0; /* one more for undo */
    return wdt_sum(wdt_product(token, (size_t)capacity), wdt_product(landmark, landmark_rows));
}

size_t wdt_cache_bytes(const wdt_head *head, ptrdiff_t capacity, int half)
{
    return bytes_of(head->kv_heads, head->head_dim, capacity, wdt_block_count(head, capacity), half);
}

/* Points the arrays of a cache whose sizes are set into its memory. */
static void lay_out(wdt_cache *cache, void *memory)
{
    const size_t row = (size_t)cache->kv_heads * (size_t)cache->head_dim;
    const size_t landmarks = row * (size_t)cache->blocks, undo = cache->blocks ? row : 0;
    float *at = memory;
    cache->landmark_keys = at;
    cache->landmark_values = at += landmarks;
    cache->undo_keys = at += landmarks;
    cache->undo_values = at += undo;
    at += undo;
    cache->keys = at;
    cache->values = (char *)cache->keys + row * (size_t)cache->capacity * wdt_number_bytes(cache->half);
}

wdt_status wdt_cache_init(wdt_cache *cache, const wdt_head *head, ptrdiff_t capacity, int half, void *memory)
{
    if (wdt_head_rule(head) || !head->causal || capacity < 1 || wdt_cache_bytes(head, capacity, half) == SIZE_MAX) {
        return WDT_E_CONFIG;
    }
    *cache = (wdt_cache){
        .kv_heads = head->kv_heads,
        .head_dim = head->head_dim,
        .block_size = head->block_size,
        .half = half != 0,
        .capacity = capacity,
        .blocks = wdt_block_count(head, capacity),
    };
    lay_out(cache, memory);
    return WDT_OK;
}

size_t wdt_cache_copy_bytes(const wdt_cache *cache, ptrdiff_t capacity)
{
    return bytes_of(cache->kv_heads, cache->head_dim, capacity, blocks_of(cache, capacity), cache->half);
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
    const size_t D = (size_t)cache->head_dim, row = D * sizeof(float), token = D * wdt_number_bytes(cache->half);
    const ptrdiff_t used_blocks = blocks_of(cache, cache->length);
    *copy = *cache;
    copy->capacity = capacity;
    copy->blocks = blocks_of(cache, capacity);
    lay_out(copy, memory);
    copy_rows(copy->keys, capacity, cache->keys, cache->capacity, cache->length, token, heads);
    copy_rows(copy->values, capacity, cache->values, cache->capacity, cache->length, token, heads);
    copy_rows(copy->landmark_keys, copy->blocks, cache->landmark_keys, cache->blocks, used_blocks, row, heads);
    copy_rows(copy->landmark_values, copy->blocks, cache->landmark_values, cache->blocks, used_blocks, row, heads);
    copy_rows(copy->undo_keys, 1, cache->undo_keys, 1, used_blocks > 0, row, heads);
    copy_rows(copy->undo_values, 1, cache->undo_values, 1, used_blocks > 0, row, heads);
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

/* Where token t of head h lies in rows [Hkv, capacity, D]. */
static void *row_at(const wdt_cache *cache, const void *rows, ptrdiff_t h, ptrdiff_t t)
{
    const size_t number = (size_t)((h * cache->capacity + t) * cache->head_dim);
    return (char *)rows + number * wdt_number_bytes(cache->half);
}

/* Writes x [Hkv, D] as token t of rows [Hkv, capacity, D]. */
static void store_token(const wdt_cache *cache, void *rows, ptrdiff_t t, const float *x)
{
    const ptrdiff_t D = cache->head_dim;
    for (ptrdiff_t h = 0; h < cache->kv_heads; h++, x += D) {
        void *const row = row_at(cache, rows, h, t);
        if (cache->half) {
            wdt_kernels_in_use()->to_half(x, D, row);
        } else {
            memcpy(row, x, (size_t)D * sizeof *x);
        }
    }
}

/* Reads token t of rows [Hkv, capacity, D] into x [Hkv, D]. */
static void load_token(const wdt_cache *cache, const void *rows, ptrdiff_t t, float *x)
{
    const ptrdiff_t D = cache->head_dim;
    for (ptrdiff_t h = 0; h < cache->kv_heads; h++, x += D) {
        const void *const row = row_at(cache, rows, h, t);
        if (cache->half) {
            for (ptrdiff_t d = 0; d < D; d++) {
                x[d] = wdt_half_to_float(((const uint16_t *)row)[d]);
            }
        } else {
            memcpy(x, row, (size_t)D * sizeof *x);
        }
    }
}

/* Adds x [Hkv, D] of token t to its block's row of landmarks [Hkv, blocks, D], keeping that row as it was in undo. */
static void add_to_block(const wdt_cache *cache, float *landmarks, float *undo, ptrdiff_t t, const float *x)
{
    const ptrdiff_t D = cache->head_dim, B = cache->block_size, block = t / B;
    const int first = t % B == 0, complete = t % B == B - 1;
    const float inverse = 1.0f / (float)B;
    for (ptrdiff_t h = 0; h < cache->kv_heads; h++, x += D, undo += D) {
        float *const row = landmarks + (h * cache->blocks + block) * D;
        for (ptrdiff_t d = 0; d < D; d++) {
            const float before = first ? 0.0f : row[d];
            const float sum = first ? x[d] : before + x[d];
            undo[d] = before;
            row[d] = complete ? sum * inverse : sum;
        }
    }
}

static wdt_status append(wdt_cache *cache, const float *k, const float *v)
{
    const ptrdiff_t t = cache->length, row = (ptrdiff_t)cache->kv_heads * cache->head_dim;
    if (t == cache->capacity) {
        return WDT_E_FULL;
    }
    if (cache->half && !(fits_half(k, row) && fits_half(v, row))) {
        return WDT_E_HALF_RANGE;
    }
    store_token(cache, cache->keys, t, k);
    store_token(cache, cache->values, t, v);
    if (cache->blocks) {
        add_to_block(cache, cache->landmark_keys, cache->undo_keys, t, k);
        add_to_block(cache, cache->landmark_values, cache->undo_values, t, v);
    }
    cache->length = t + 1;
    return WDT_OK;
}

void wdt_cache_undo(wdt_cache *cache)
{
    const ptrdiff_t D = cache->head_dim, t = --cache->length;
    for (ptrdiff_t h = 0; cache->blocks && h < cache->kv_heads; h++) {
        const ptrdiff_t at = (h * cache->blocks + t / cache->block_size) * D;
        memcpy(cache->landmark_keys + at, cache->undo_keys + h * D, (size_t)D * sizeof(float));
        memcpy(cache->landmark_values + at, cache->undo_values + h * D, (size_t)D * sizeof(float));
    }
}

wdt_status wdt_step(const wdt_head *head, wdt_cache *cache, const float *q, const float *k, const float *v,
                    float *out)
{
    if (!wdt_cache_fits(cache, head)) {
        return WDT_E_CONFIG;
    }
    const wdt_status status = append(cache, k, v);
    if (status != WDT_OK) {
        return status;
    }
    const ptrdiff_t T = cache->length, D = cache->head_dim, group = head->q_heads / head->kv_heads;
    wdt_candidates tokens, landmarks;
    wdt_token_candidates(head, T - 1, T, &tokens);
    wdt_landmark_candidates(head, T - 1, T, &landmarks);
    for (ptrdiff_t kv = 0; kv < head->kv_heads; kv++) {
        const ptrdiff_t block = kv * cache->blocks * D, queries = kv * group * D;
        const wdt_rows token_rows = {row_at(cache, cache->keys, kv, 0), row_at(cache, cache->values, kv, 0), D,
                                     cache->half};
        const wdt_rows landmark_rows = {cache->landmark_keys + block, cache->landmark_values + block, D, 0};
        wdt_kernels_in_use()->attend(q + queries, (int)group, (int)D, &token_rows, &tokens, &landmark_rows, &landmarks,
                                     out + queries);
    }
    return WDT_OK;
}

void wdt_cache_read(const wdt_cache *cache, ptrdiff_t position, float *key, float *value)
{
    load_token(cache, cache->keys, position, key);
    load_token(cache, cache->values, position, value);
}
