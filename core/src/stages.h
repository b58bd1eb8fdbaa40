/* What the stages of a model step are made of, for n rows at once: a row is a track's. stream.c runs one, and streams.c
 * a group of them, whose bits are those of one: nothing here makes a row depend on another. */
#ifndef WDT_STAGES_H
#define WDT_STAGES_H

#include <math.h>
#include <string.h>

#include "exponential.h"
#include "kernels.h"
#include "weights.h"
#include "wdt_model.h"

/* What follows a tensor of `count` numbers. */
static const void *wdt_skip(const void *tensor, int dtype, ptrdiff_t count)
{
    return (const char *)tensor + (size_t)wdt_tensor_bytes(dtype, (uint64_t)count);
}

/* y [n, n_out] = x [n, n_in] W [n_in, n_out] + bias [n_out], which may be NULL */
static void wdt_affine(const float *x, int32_t n, const void *W, const void *bias, int dtype, int32_t n_in,
                       int32_t n_out, float *y)
{
    const void *const biases = bias ? wdt_tensor_numbers(bias, dtype) : NULL;
    const float scale = bias ? wdt_tensor_scale(bias, dtype) : 0.0f;
    for (int32_t j = 0; bias && j < n_out; j++) {
        y[j] = scale * wdt_weight_at(biases, dtype, j);
    }
    for (int32_t r = 1; bias && r < n; r++) {
        memcpy(y + (ptrdiff_t)r * n_out, y, (size_t)n_out * sizeof *y);
    }
    wdt_kernels_in_use()->product(x, n, W, dtype, n_in, n_out, bias != NULL, y);
}

/* y [n] = x [n], or x / sqrt(mean(x^2) + eps): RMSNorm without gain (Zhang and Sennrich 2019). */
static void wdt_normalise(const float *x, uint32_t norm, int32_t n, float *y)
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

/* y [F] = (frame - mean) * scale */
static void wdt_scale_frame(const wdt_model *model, const float *frame, float *y)
{
    for (int32_t f = 0; f < model->features; f++) {
        float mean = 0.0f, scale = 1.0f;
        if (model->feature_mean) { /* not aligned */
            memcpy(&mean, model->feature_mean + (size_t)f * sizeof mean, sizeof mean);
            memcpy(&scale, model->feature_scale + (size_t)f * sizeof scale, sizeof scale);
        }
        y[f] = model->feature_mean ? (frame[f] - mean) * scale : frame[f];
    }
}

/* The weights of a layer, in the order in which they lie. */
typedef struct wdt_attention_weights {
    const void *Wq, *Wk, *Wv, *Wo; /* [d, Hq D], [d, Hkv D], [d, Hkv D], [Hq D, d] */
} wdt_attention_weights;

static wdt_attention_weights wdt_weights_of(const wdt_model *model, int32_t layer)
{
    const ptrdiff_t d = model->width, D = model->head.head_dim;
    const ptrdiff_t query = d * model->head.q_heads * D, key = d * model->head.kv_heads * D;
    wdt_attention_weights W;
    W.Wq = (const char *)model->weights + model->layer_bytes * layer;
    W.Wk = wdt_skip(W.Wq, model->dtype, query);
    W.Wv = wdt_skip(W.Wk, model->dtype, key);
    W.Wo = wdt_skip(W.Wv, model->dtype, key);
    return W;
}

/* x / (1 + e^-x), with an exp that is the same on every chip. Below -88.3, x / e^88.3 is as good as 0. */
static float wdt_silu(float x)
{
    return x / (1.0f + wdt_exp(-x < WDT_EXP_HIGHEST ? -x : WDT_EXP_HIGHEST));
}

/* h [n, d] += W2 act(W1 norm(h)); x [n, d] and inner [n, hidden] are scratch. */
static void wdt_feed_forward(const wdt_model *model, int32_t layer, int32_t n, float *h, float *x, float *inner)
{
    const int32_t d = model->width, hidden = model->hidden;
    const ptrdiff_t bytes = (ptrdiff_t)wdt_tensor_bytes(model->dtype, (uint64_t)d * (uint64_t)hidden);
    const void *const W1 = (const char *)model->feed_forward + 2 * bytes * layer;
    const void *const W2 = (const char *)W1 + bytes;
    for (int32_t r = 0; r < n; r++) {
        wdt_normalise(h + (ptrdiff_t)r * d, model->norm, d, x + (ptrdiff_t)r * d);
    }
    wdt_affine(x, n, W1, NULL, model->dtype, d, hidden, inner);
    for (ptrdiff_t c = 0; c < (ptrdiff_t)n * hidden; c++) {
        inner[c] = model->activation == WDT_ACT_SILU ? wdt_silu(inner[c]) : inner[c] > 0.0f ? inner[c] : 0.0f;
    }
    wdt_kernels_in_use()->product(inner, n, W2, model->dtype, hidden, d, 1, h);
}

/* x [n] /= |x|; a zero vector has no direction and stays zero. Divided by its largest first: squares can underflow. */
static void wdt_make_unit(float *x, int32_t n)
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

/* embedding [n, E] = project(pooled) / |project(pooled)|; inner [n, H] is scratch. */
static void wdt_embed(const wdt_model *model, int32_t n, const float *pooled, float *inner, float *embedding)
{
    const int32_t P = model->pooled_dim, H = model->embedding_hidden, E = model->embedding_dim;
    if (!model->embedding_weight[0]) {
        memcpy(embedding, pooled, (size_t)n * (size_t)E * sizeof *embedding);
    } else if (H == 0) {
        wdt_affine(pooled, n, model->embedding_weight[0], model->embedding_bias[0], model->dtype, P, E, embedding);
    } else {
        wdt_affine(pooled, n, model->embedding_weight[0], model->embedding_bias[0], model->dtype, P, H, inner);
        for (ptrdiff_t c = 0; c < (ptrdiff_t)n * H; c++) {
            inner[c] = fmaxf(inner[c], 0.0f);
        }
        wdt_affine(inner, n, model->embedding_weight[1], model->embedding_bias[1], model->dtype, H, E, embedding);
    }
    for (int32_t r = 0; r < n; r++) {
        wdt_make_unit(embedding + (ptrdiff_t)r * E, E);
    }
}

#endif
