/* One track running through a model: the model step of docs/semantics.md, frame by frame, with one cache a layer.
 *
 * Memory, in this order: the caches' descriptions, each layer's cache, the pooling's state; then h and
 * scratch, of which a pool's streams have none (streams.c). */
#include "cache.h"
#include "checked.h"
#include "pooling.h"
#include "stages.h"

#define ALIGNMENT 16u /* of each part of the memory, so that it suits any type */

/* ------------------------------------------------------------------------------------------------------ memory */

/* Floats of scratch: the largest of what the three stages of a push hold at once. */
static size_t scratch_floats(const wdt_model *model)
{
    const size_t d = (size_t)model->width, D = (size_t)model->head.head_dim; /* products are below weights_len */
    const size_t heads = (size_t)model->head.q_heads, dkv = D * (size_t)model->head.kv_heads;
    const size_t attention = d + 2 * D * heads + 2 * (model->absorbed ? d * heads : dkv);
    const size_t others[3] = {(size_t)model->features, d + (size_t)model->hidden,
                              (size_t)model->pooled_dim + (size_t)model->embedding_hidden};
    size_t most = attention;
    for (int k = 0; k < 3; k++) {
        most = others[k] > most ? others[k] : most;
    }
    return most;
}

static size_t round_up(size_t bytes)
{
    return bytes > SIZE_MAX - ALIGNMENT ? SIZE_MAX : (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static size_t float_bytes(size_t floats)
{
    return round_up(wdt_product(floats, sizeof(float)));
}

/* What each layer's cache is. */
static wdt_cache_config of_layers(const wdt_model *model, const wdt_cache_config *config)
{
    wdt_cache_config layers = *config;
    layers.form = (config->form & WDT_CACHE_HALF) | (model->absorbed ? WDT_CACHE_SHARED : 0u);
    return layers;
}

static size_t cache_bytes(const wdt_model *model, const wdt_cache_config *layers)
{
    return round_up(wdt_cache_bytes(&model->cached, layers));
}

size_t wdt_stream_state_bytes(const wdt_model *model, const wdt_cache_config *config)
{
    const size_t layers = (size_t)model->layers;
    const wdt_cache_config of = of_layers(model, config);
    const size_t caches = wdt_product(layers, cache_bytes(model, &of));
    const size_t descriptions = round_up(wdt_product(layers, sizeof(wdt_cache)));
    return wdt_sum(wdt_sum(descriptions, caches), float_bytes(wdt_pool_floats(model)));
}

size_t wdt_stream_bytes(const wdt_model *model, const wdt_cache_config *config)
{
    const size_t floats = wdt_sum(float_bytes((size_t)model->width), float_bytes(scratch_floats(model)));
    return wdt_sum(wdt_stream_state_bytes(model, config), floats);
}

wdt_status wdt_stream_init_state(wdt_stream *stream, const wdt_model *model, const wdt_cache_config *config,
                                 void *memory)
{
    if (config->capacity < 1 || (config->policy && config->policy->by_scores) ||
        wdt_stream_bytes(model, config) == SIZE_MAX) {
        return WDT_E_CONFIG;
    }
    const wdt_cache_config layers = of_layers(model, config);
    char *at = memory;
    wdt_cache *const caches = memory;
    at += round_up((size_t)model->layers * sizeof(wdt_cache)); /* wdt_stream_bytes() has seen that all this fits */
    for (int32_t l = 0; l < model->layers; l++) {
        const wdt_status status = wdt_cache_init(&caches[l], &model->cached, &layers, at);
        if (status != WDT_OK) {
            return status;
        }
        at += cache_bytes(model, &layers);
    }
    *stream = (wdt_stream){.model = model, .caches = caches, .pool = (float *)(void *)at, .capacity = config->capacity};
    return WDT_OK;
}

wdt_status wdt_stream_init(wdt_stream *stream, const wdt_model *model, const wdt_cache_config *config, void *memory)
{
    const wdt_status status = wdt_stream_init_state(stream, model, config, memory);
    if (status == WDT_OK) {
        stream->hidden = (float *)(void *)((char *)memory + wdt_stream_state_bytes(model, config));
        stream->scratch = stream->hidden + float_bytes((size_t)model->width) / sizeof(float);
    }
    return status;
}

void wdt_stream_reset(wdt_stream *stream)
{
    for (int32_t l = 0; l < stream->model->layers; l++) {
        wdt_cache_clear(&stream->caches[l]);
    }
    stream->length = 0;
}

/* ------------------------------------------------------------------------------------------- the stages of a push */

static int is_usable(const wdt_stream *stream)
{
    return wdt_first_unusable(stream->hidden, (size_t)stream->model->width) < 0;
}

/* h_0 [d] of frame [F] */
static void enter(const wdt_stream *stream, const float *frame)
{
    const wdt_model *const model = stream->model;
    wdt_scale_frame(model, frame, model->input_weight ? stream->scratch : stream->hidden);
    if (model->input_weight) {
        wdt_affine(stream->scratch, 1, model->input_weight, model->input_bias, model->dtype, model->features,
                   model->width, stream->hidden);
    }
}

/* Key and value [Hkv D] each, one behind the other, of x = norm(h) [d]. */
static wdt_status make_keys(const wdt_model *model, const wdt_attention_weights *W, const float *x, float *k)
{
    const int32_t d = model->width, dkv = model->head.kv_heads * model->head.head_dim;
    wdt_affine(x, 1, W->Wk, NULL, model->dtype, d, dkv, k);
    wdt_affine(x, 1, W->Wv, NULL, model->dtype, d, dkv, k + dkv);
    return wdt_first_unusable(k, 2 * (size_t)dkv) < 0 ? WDT_OK : WDT_E_NON_FINITE;
}

/* out [Hq D] of q [Hq D] and x, whose key and value are appended to the cache. */
static wdt_status attend_keys(const wdt_model *model, wdt_cache *cache, const wdt_attention_weights *W, const float *q,
                              const float *x, float *out)
{
    const int32_t dkv = model->head.kv_heads * model->head.head_dim;
    float *const k = out + model->head.q_heads * model->head.head_dim;
    const wdt_status status = make_keys(model, W, x, k);
    return status == WDT_OK ? wdt_step(&model->head, cache, q, k, k + dkv, out) : status;
}

/* The same with x itself in the cache, for all heads have one Wk and one Wv, and both are linear:
 *   q . (x Wk) = (Wk q) . x        sum of w (x Wv) = (sum of w x) Wv
 * A step divides scores by sqrt(d), which is sqrt(D) by rights. With q and x up to 10^12 and weights up to 10^6, a
 * score is below 10^30 d D, and d D below 2^32 / 16, for weights_len has 32 bits: finite. */
static wdt_status attend_inputs(const wdt_model *model, wdt_cache *cache, const wdt_attention_weights *W,
                                const float *q, const float *x, float *out)
{
    const int32_t d = model->width, D = model->head.head_dim, heads = model->head.q_heads;
    const float scale = sqrtf((float)d / (float)D);
    float *const on_inputs = out + heads * D, *const sums = on_inputs + heads * d; /* [Hq, d] each */
    wdt_kernels_in_use()->product_transposed(q, heads, W->Wk, model->dtype, D, d, 0, on_inputs);
    for (int32_t c = 0; c < heads * d; c++) {
        on_inputs[c] *= scale;
    }
    const wdt_status status = wdt_step(&model->cached, cache, on_inputs, x, x, sums);
    if (status == WDT_OK) {
        wdt_kernels_in_use()->product(sums, heads, W->Wv, model->dtype, d, D, 0, out);
    }
    return status;
}

/* h += Attn(norm(h)) Wo; appends to the layer's cache unless it refuses. */
static wdt_status attend(const wdt_stream *stream, int32_t layer)
{
    const wdt_model *const model = stream->model;
    const wdt_attention_weights W = wdt_weights_of(model, layer);
    const int32_t d = model->width, dq = model->head.q_heads * model->head.head_dim;
    wdt_cache *const cache = &stream->caches[layer];
    float *const x = stream->scratch, *const q = x + d, *const out = q + dq;

    wdt_normalise(stream->hidden, model->norm, d, x);
    wdt_affine(x, 1, W.Wq, NULL, model->dtype, d, dq, q);
    if (wdt_first_unusable(q, (size_t)dq) >= 0) {
        return WDT_E_NON_FINITE;
    }
    const wdt_status status = model->absorbed ? attend_inputs(model, cache, &W, q, x, out)
                                              : attend_keys(model, cache, &W, q, x, out);
    if (status == WDT_OK) {
        wdt_kernels_in_use()->product(out, 1, W.Wo, model->dtype, dq, d, 1, stream->hidden);
    }
    return status == WDT_OK && !is_usable(stream) ? WDT_E_NON_FINITE : status;
}

/* What later frames attend to, of the last layer: its cache takes the frame, and nothing else is computed. */
static wdt_status remember(const wdt_stream *stream)
{
    const wdt_model *const model = stream->model;
    const int32_t last = model->layers - 1, d = model->width, dkv = model->head.kv_heads * model->head.head_dim;
    float *const x = stream->scratch, *const k = x + d;
    wdt_normalise(stream->hidden, model->norm, d, x);
    if (model->absorbed) {
        return wdt_cache_append(&stream->caches[last], x, x);
    }
    const wdt_attention_weights W = wdt_weights_of(model, last);
    const wdt_status status = make_keys(model, &W, x, k);
    return status == WDT_OK ? wdt_cache_append(&stream->caches[last], k, k + dkv) : status;
}

/* From frame to the h behind `layers` of them; on a refusal the caches of the first have one token too many. */
static wdt_status run_layers(wdt_stream *stream, const float *frame, int32_t layers)
{
    const wdt_model *const model = stream->model;
    enter(stream, frame);
    if (!is_usable(stream)) {
        return WDT_E_NON_FINITE;
    }
    for (int32_t l = 0; l < layers; l++) {
        const wdt_status status = attend(stream, l);
        if (status != WDT_OK) {
            return status;
        }
        if (model->feed_forward) {
            wdt_feed_forward(model, l, 1, stream->hidden, stream->scratch, stream->scratch + model->width);
            if (!is_usable(stream)) {
                return WDT_E_NON_FINITE;
            }
        }
    }
    return WDT_OK;
}

/* Takes back what run_layers() has appended: the caches hold as many tokens as the stream has frames. */
void wdt_stream_drop(wdt_stream *stream)
{
    for (int32_t l = 0; l < stream->model->layers && stream->caches[l].length > stream->length; l++) {
        wdt_cache_undo(&stream->caches[l]);
    }
}

/* Runs the frame, through the whole last layer or only so far as others attend to it; a refusal changes nothing. */
static wdt_status run(wdt_stream *stream, const float *frame, int whole)
{
    const int32_t layers = stream->model->layers;
    if (wdt_cache_is_full(stream->caches)) { /* as are those of the other layers */
        return WDT_E_FULL;
    }
    wdt_status status = run_layers(stream, frame, whole ? layers : layers - 1);
    if (status == WDT_OK && !whole) {
        status = remember(stream);
    }
    if (status != WDT_OK) {
        wdt_stream_drop(stream);
    }
    return status;
}

wdt_status wdt_stream_run(wdt_stream *stream, const float *frame)
{
    return run(stream, frame, 1);
}

wdt_status wdt_stream_remember(wdt_stream *stream, const float *frame)
{
    const wdt_status status = run(stream, frame, stream->caches->policy->attend != NULL);
    stream->length += status == WDT_OK;
    return status;
}

void wdt_stream_keep(wdt_stream *stream, float *logits, float *embedding)
{
    const wdt_model *const model = stream->model;
    float *const pooled = stream->scratch, *const inner = pooled + model->pooled_dim;
    wdt_pool(model, stream->pool, stream->length, stream->hidden, pooled);
    stream->length++;
    if (logits) {
        wdt_affine(pooled, 1, model->classifier, model->classifier_bias, model->dtype, model->pooled_dim,
                   model->classes, logits);
    }
    if (embedding) {
        wdt_embed(model, 1, pooled, inner, embedding);
    }
}

wdt_status wdt_stream_push(wdt_stream *stream, const float *frame, float *logits, float *embedding)
{
    const wdt_status status = wdt_stream_run(stream, frame);
    if (status == WDT_OK) {
        wdt_stream_keep(stream, logits, embedding);
    }
    return status;
}
