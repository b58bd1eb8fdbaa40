/* A stream's state as bytes, and back: for snapshots. Bytes that come back may be anyone's, and are checked.
 *
 *   i64 frames so far, then what is behind the caches' descriptions: what each cache holds, and the pooling's state.
 *
 * There is no pointer in it, so that it is the same wherever a stream lies, and zeros are where a stream has written
 * nothing. Of one processor family: numbers are as they are in memory. */
#include <string.h>

#include "cache.h"
#include "pooling.h"
#include "unusable.h"
#include "wdt_streams.h"

/* No stream gets here: a thousand years at 100 Hz. Until then no square of the pooling overflows. */
#define MAX_FRAMES ((int64_t)1 << 42)

static char *content_of(const wdt_stream *stream)
{
    return (char *)(stream->caches + stream->model->layers);
}

static size_t content_bytes(const wdt_model *model, const wdt_cache_config *config)
{
    return wdt_stream_state_bytes(model, config) - (size_t)model->layers * sizeof(wdt_cache);
}

size_t wdt_stream_saved_bytes(const wdt_model *model, const wdt_cache_config *config)
{
    return sizeof(int64_t) + content_bytes(model, config);
}

void wdt_stream_save(const wdt_stream *stream, const wdt_cache_config *config, void *bytes)
{
    const wdt_model *const model = stream->model;
    const int64_t length = stream->length;
    char *const content = (char *)bytes + sizeof length, *const from = content_of(stream);
    memset(bytes, 0, wdt_stream_saved_bytes(model, config));
    memcpy(bytes, &length, sizeof length);
    for (int32_t l = 0; l < model->layers; l++) {
        const wdt_cache *const cache = &stream->caches[l];
        wdt_cache copy;
        wdt_cache_copy(&copy, cache, cache->capacity, content + ((char *)cache->state - from));
        if (copy.policy->settle) {
            copy.policy->settle(&copy);
        }
    }
    const size_t used = wdt_pool_used_floats(model, stream->length);
    memcpy(content + ((char *)stream->pool - from), stream->pool, used * sizeof(float));
}

/* 1 if no number of x [n] is NaN or beyond +-limit. */
static int are_within(const float *x, size_t n, float limit)
{
    const int32_t bits = (int32_t)wdt_float_bits(limit);
    int32_t found = 0;
    for (size_t j = 0; j < n; j++) {
        found |= wdt_is_beyond(x[j], bits);
    }
    return !found;
}

static int are_finite_halves(const uint16_t *x, size_t n)
{
    for (size_t j = 0; j < n; j++) {
        if ((x[j] & 0x7C00u) == 0x7C00u) {
            return 0;
        }
    }
    return 1;
}

/* Means, and sums of as many tokens as there are. Each addition is rounded, by no more than what is added: hence 2. */
static int are_landmarks_sound(const wdt_cache *cache)
{
    const size_t row = (size_t)wdt_cache_stride(cache);
    const ptrdiff_t partial = cache->length % cache->block_size;
    const ptrdiff_t filling = wdt_landmark_row(cache, cache->length / cache->block_size);
    const float mean = 2.0f * WDT_MAX_VALUE;
    for (ptrdiff_t h = 0; h < cache->kv_heads; h++) {
        for (ptrdiff_t b = 0; b < cache->blocks; b++) {
            const float limit = partial && b == filling ? mean * (float)partial : mean;
            if (!are_within(wdt_landmark_at(cache, h, b, 0), row, limit)) {
                return 0;
            }
        }
    }
    return are_within(cache->undo, row * (size_t)cache->kv_heads, mean * (float)cache->block_size);
}

/* Makes a cache of the bytes in its place that a run of this head can have left; 0 if none has. */
static int restore(wdt_cache *cache, const wdt_head *head)
{
    const size_t tokens = (size_t)wdt_cache_stride(cache) * (size_t)cache->kv_heads * (size_t)cache->rows;
    return wdt_cache_fits(cache, head) && (cache->blocks == 0 || are_landmarks_sound(cache)) &&
           (cache->half ? are_finite_halves(cache->tokens, tokens)
                        : are_within(cache->tokens, tokens, WDT_MAX_VALUE)) &&
           (!cache->policy->restore || cache->policy->restore(cache));
}

/* Within the same bounds, 2 for roundings again: sums, of the spread of squares, or of last n the frames themselves. */
static int is_pool_sound(const wdt_stream *stream)
{
    const wdt_model *const model = stream->model;
    const size_t n = wdt_pool_floats(model), half = n / 2;
    const float mean = 2.0f * WDT_MAX_VALUE, frames = (float)stream->length;
    switch (model->pooling.kind) {
    case WDT_POOL_MEAN:
        return are_within(stream->pool, n, mean * frames);
    case WDT_POOL_MEAN_SPREAD: /* a square is of the difference of two frames; sums of them can be just below 0 */
        return are_within(stream->pool, half, mean) &&
               are_within(stream->pool + half, half, 2.0f * mean * mean * frames);
    default:
        return are_within(stream->pool, n, WDT_MAX_VALUE);
    }
}

wdt_status wdt_stream_load(wdt_stream *stream, const wdt_cache_config *config, const void *bytes)
{
    const wdt_model *const model = stream->model;
    int64_t length;
    memcpy(&length, bytes, sizeof length);
    if (length < 0 || length > MAX_FRAMES || length > PTRDIFF_MAX / 2 ||
        (!stream->caches->policy->place && length > stream->capacity)) {
        return WDT_E_CONFIG;
    }
    memcpy(content_of(stream), (const char *)bytes + sizeof length, content_bytes(model, config));
    stream->length = (ptrdiff_t)length;
    int sound = is_pool_sound(stream);
    for (int32_t l = 0; l < model->layers; l++) {
        stream->caches[l].length = (ptrdiff_t)length;
        sound = sound && restore(&stream->caches[l], &model->cached);
    }
    return sound ? WDT_OK : WDT_E_NON_FINITE;
}
