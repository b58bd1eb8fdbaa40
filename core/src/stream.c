/* One track running through a model: the model step of docs/semantics.md, frame by frame, with one cache a layer.
 *
 * Memory, in this order: the caches' descriptions, each layer's cache, the pooling's state, h, scratch. */
#include <math.h>
#include <string.h>

#include "cache.h"
#include "checked.h"
#include "exponential.h"
#include "kernels.h"
#include "pooling.h"
#include "weights.h"
#include "wdt_model.h"

#define ALIGNMENT 16u /* of each part of the memory, so that it suits any type */

/* What follows a tensor of `count` numbers. */
static const void *skip(const void *tensor, int dtype, ptrdiff_t count)
{
    return (const char *)tensor + (size_t)wdt_tensor_bytes(dtype, (uint64_t)count);
}

/* y [n_out] = x [n_in] W [n_in, n_out] + bias [n_out], which may be NULL */
static void affine(const float *x, const void *W, const void *bias, int dtype, int32_t n_in, int32_t n_out, float *y)
{
    const void *const biases = bias ? wdt_tensor_numbers(bias, dtype) : NULL;
    const float scale = bias ? wdt_tensor_scale(bias, dtype) : 0.0f;
    for (int32_t j = 0; bias && j < n_out; j++) {
        y[j] = scale * wdt_weight_at(biases, dtype, j);
    }
    wdt_kernels_in_use()->product(x, 1, W, dtype, n_in, n_out, bias != NULL, y);
}

/* y [n] = x [n], or x / sqrt(mean(x^2) + eps): RMSNorm without gain (Zhang and Sennrich 2019). */
static void normalise(const float *x, uint32_t norm, int32_t n, float *y)
{
    float scale = 1.0f;
    if (norm == WDT_NORM_RMS) {
        float squares = 0.0f;
        for (int32_t c = 0; c < n; c++) {
            squares += x[c] * x[c];
        }
        scale = 1.0f / sqrtf(squares / (float)n + WDT_RMS_EPSILON);
    }
    for (int32_t c = 0; c < n; c++) {
        y[c] = x[c] * scale;
    }
}

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

size_t wdt_stream_bytes(const wdt_model *model, const wdt_cache_config *config)
{
    const size_t layers = (size_t)model->layers;
    const wdt_cache_config of = of_layers(model, config);
    const size_t caches = wdt_product(layers, cache_bytes(model, &of));
    const size_t floats = wdt_sum(wdt_sum(float_bytes(wdt_pool_floats(model)), float_bytes((size_t)model->width)),
                                  float_bytes(scratch_floats(model)));
    return wdt_sum(wdt_sum(round_up(wdt_product(layers, sizeof(wdt_cache))), caches), floats);
}

wdt_status wdt_stream_init(wdt_stream *stream, const wdt_model *model, const wdt_cache_config *config, void *memory)
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
    *stream = (wdt_stream){.model = model, .caches = caches, .capacity = config->capacity};
    stream->pool = (float *)(void *)at;
    at += float_bytes(wdt_pool_floats(model));
    stream->hidden = (float *)(void *)at;
    at += float_bytes((size_t)model->width);
    stream->scratch = (float *)(void *)at;
    return WDT_OK;
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

static float float_at(const uint8_t *tensor, int32_t index)
{
    float x;
    memcpy(&x, tensor + (size_t)index * sizeof x, sizeof x);
    return x;
}

/* h_0 [d] of frame [F] */
static void enter(const wdt_stream *stream, const float *frame)
{
    const wdt_model *const model = stream->model;
    float *const scaled = model->input_weight ? stream->scratch : stream->hidden;
    for (int32_t f = 0; f < model->features; f++) {
        scaled[f] = model->feature_mean
                        ? (frame[f] - float_at(model->feature_mean, f)) * float_at(model->feature_scale, f)
                        : frame[f];
    }
    if (model->input_weight) {
        affine(scaled, model->input_weight, model->input_bias, model->dtype, model->features, model->width,
               stream->hidden);
    }
}

/* The weights of a layer's attention, in the order in which they lie. */
typedef struct attention_weights {
    const void *Wq, *Wk, *Wv, *Wo; /* [d, Hq D], [d, Hkv D], [d, Hkv D], [Hq D, d] */
} attention_weights;

static attention_weights weights_of(const wdt_model *model, int32_t layer)
{
    const ptrdiff_t d = model->width, D = model->head.head_dim;
    const ptrdiff_t query = d * model->head.q_heads * D, key = d * model->head.kv_heads * D;
    attention_weights W;
    W.Wq = (const char *)model->weights + model->layer_bytes * layer;
    W.Wk = skip(W.Wq, model->dtype, query);
    W.Wv = skip(W.Wk, model->dtype, key);
    W.Wo = skip(W.Wv, model->dtype, key);
    return W;
}

/* Key and value [Hkv D] each, one behind the other, of x = norm(h) [d]. */
static wdt_status make_keys(const wdt_model *model, const attention_weights *W, const float *x, float *k)
{
    const int32_t d = model->width, dkv = model->head.kv_heads * model->head.head_dim;
    affine(x, W->Wk, NULL, model->dtype, d, dkv, k);
    affine(x, W->Wv, NULL, model->dtype, d, dkv, k + dkv);
    return wdt_first_unusable(k, 2 * (size_t)dkv) < 0 ? WDT_OK : WDT_E_NON_FINITE;
}

/* out [Hq D] of q [Hq D] and x, whose key and value are appended to the cache. */
static wdt_status attend_keys(const wdt_model *model, wdt_cache *cache, const attention_weights *W, const float *q,
                              const float *x, float *out)
{
    const int32_t dkv = model->head.kv_heads * model->head.head_dim;
    float *const k = out + model->head.q_heads * model->head.head_dim;
    const wdt_status status = make_keys(model, W, x, k);
    return status == WDT_OK ? wdt_step(&model->head, cache, q, k, k + dkv, out) : status;
}

/* The same with x itself in the cache, for all heads have one Wk and one Wv, and both are linear:
 *   q . (x Wk) = (Wk q) . x        sum of w (x Wv) = (sum of w x) Wv
 * A step divides scores by sqrt(d), which is sqrt(D) by rights. With q and x up to 10^12 and weights up to 10^6, a score is
 * below 10^30 d D, and d D below 2^32 / 16, for weights_len has 32 bits: finite. */
static wdt_status attend_inputs(const wdt_model *model, wdt_cache *cache, const attention_weights *W,
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
    const attention_weights W = weights_of(model, layer);
    const int32_t d = model->width, dq = model->head.q_heads * model->head.head_dim;
    wdt_cache *const cache = &stream->caches[layer];
    float *const x = stream->scratch, *const q = x + d, *const out = q + dq;

    normalise(stream->hidden, model->norm, d, x);
    affine(x, W.Wq, NULL, model->dtype, d, dq, q);
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
    normalise(stream->hidden, model->norm, d, x);
    if (model->absorbed) {
        return wdt_cache_append(&stream->caches[last], x, x);
    }
    const attention_weights W = weights_of(model, last);
    const wdt_status status = make_keys(model, &W, x, k);
    return status == WDT_OK ? wdt_cache_append(&stream->caches[last], k, k + dkv) : status;
}

/* x / (1 + e^-x), with an exp that is the same on every chip. Below -88.3, x / e^88.3 is as good as 0. */
static float silu(float x)
{
    return x / (1.0f + wdt_exp(fminf(-x, WDT_EXP_HIGHEST)));
}

/* h += W2 act(W1 norm(h)) */
static void feed_forward(const wdt_stream *stream, int32_t layer)
{
    const wdt_model *const model = stream->model;
    const int32_t d = model->width, hidden = model->hidden;
    const ptrdiff_t size = (ptrdiff_t)d * hidden;
    const ptrdiff_t bytes = (ptrdiff_t)wdt_tensor_bytes(model->dtype, (uint64_t)size);
    const void *const W1 = (const char *)model->feed_forward + 2 * bytes * layer;
    const void *const W2 = (const char *)W1 + bytes;
    float *const x = stream->scratch, *const inner = x + d;

    normalise(stream->hidden, model->norm, d, x);
    affine(x, W1, NULL, model->dtype, d, hidden, inner);
    for (int32_t c = 0; c < hidden; c++) {
        inner[c] = model->activation == WDT_ACT_SILU ? silu(inner[c]) : fmaxf(inner[c], 0.0f);
    }
    wdt_kernels_in_use()->product(inner, 1, W2, model->dtype, hidden, d, 1, stream->hidden);
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
            feed_forward(stream, l);
            if (!is_usable(stream)) {
                return WDT_E_NON_FINITE;
            }
        }
    }
    return WDT_OK;
}

/* x [n] /= |x|; a zero vector has no direction and stays zero. Divided by its largest first: squares can underflow. */
static void make_unit(float *x, int32_t n)
{
    float largest = 0.0f, squares = 0.0f;
    for (int32_t e = 0; e < n; e++) {
        largest = fmaxf(largest, fabsf(x[e]));
    }
    for (int32_t e = 0; e < n && largest > 0.0f; e++) {
        x[e] /= largest;
        squares += x[e] * x[e];
    }
    const float inverse = largest > 0.0f ? 1.0f / sqrtf(squares) : 0.0f;
    for (int32_t e = 0; e < n; e++) {
        x[e] *= inverse;
    }
}

/* embedding [E] = project(pooled) / |project(pooled)| */
static void embed(const wdt_model *model, const float *pooled, float *inner, float *embedding)
{
    const int32_t P = model->pooled_dim, H = model->embedding_hidden, E = model->embedding_dim;
    if (!model->embedding_weight[0]) {
        memcpy(embedding, pooled, (size_t)E * sizeof *embedding);
    } else if (H == 0) {
        affine(pooled, model->embedding_weight[0], model->embedding_bias[0], model->dtype, P, E, embedding);
    } else {
        affine(pooled, model->embedding_weight[0], model->embedding_bias[0], model->dtype, P, H, inner);
        for (int32_t c = 0; c < H; c++) {
            inner[c] = fmaxf(inner[c], 0.0f);
        }
        affine(inner, model->embedding_weight[1], model->embedding_bias[1], model->dtype, H, E, embedding);
    }
    make_unit(embedding, E);
}

/* Takes back what run_layers() has appended: each cache has taken as many tokens as the stream has frames. */
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
        affine(pooled, model->classifier, model->classifier_bias, model->dtype, model->pooled_dim, model->classes,
               logits);
    }
    if (embedding) {
        embed(model, pooled, inner, embedding);
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
