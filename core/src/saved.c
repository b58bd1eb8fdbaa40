/* A stream's state as bytes, and back: for snapshots. Bytes that come back may be anyone's, and are checked.
 *
 *   i64 frames so far, then everything behind the caches' descriptions: what each cache holds, and the pooling's state.
 *
 * There is no pointer in it, so that it is the same wherever a stream lies. Of one processor family: numbers are as they are
 * in memory. */
#include <math.h>
#include <string.h>

#include "cache.h"
#include "pooling.h"
#include "wdt_streams.h"

/* No stream gets here: three thousand years at 100 kHz. */
#define MAX_FRAMES ((int64_t)1 << 53)

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
    const int64_t length = stream->length;
    memcpy(bytes, &length, sizeof length);
    memcpy((char *)bytes + sizeof length, content_of(stream), content_bytes(stream->model, config));
}

static int are_finite(const float *x, size_t n)
{
    for (size_t j = 0; j < n; j++) {
        if (!isfinite(x[j])) {
            return 0;
        }
    }
    return 1;
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

/* A cache that holds what a stream can have given it, so that no step reads outside of it or computes with NaN. */
static int is_sound(const wdt_cache *cache, const wdt_head *head)
{
    const size_t row = cache->planes * (size_t)cache->kv_heads * (size_t)cache->head_dim;
    const size_t tokens = row * (size_t)cache->rows, means = cache->blocks ? row * ((size_t)cache->blocks + 1) : 0;
    return wdt_cache_fits(cache, head) && are_finite(cache->landmarks, means) &&
           (cache->half ? are_finite_halves(cache->tokens, tokens) : are_finite(cache->tokens, tokens)) &&
           (!cache->policy->is_sound || cache->policy->is_sound(cache));
}

wdt_status wdt_stream_load(wdt_stream *stream, const wdt_cache_config *config, const void *bytes)
{
    const wdt_model *const model = stream->model;
    int64_t length;
    memcpy(&length, bytes, sizeof length);
    if (length < 0 || length > MAX_FRAMES || (!stream->caches->policy->place && length > stream->capacity)) {
        return WDT_E_CONFIG;
    }
    memcpy(content_of(stream), (const char *)bytes + sizeof length, content_bytes(model, config));
    stream->length = (ptrdiff_t)length;
    int sound = are_finite(stream->pool, wdt_pool_floats(model));
    for (int32_t l = 0; l < model->layers; l++) {
        stream->caches[l].length = (ptrdiff_t)length;
        sound = sound && is_sound(&stream->caches[l], &model->cached);
    }
    return sound ? WDT_OK : WDT_E_NON_FINITE;
}
