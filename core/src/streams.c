/* Many tracks through one model: the stages of stream.c over a group of tracks, stage by stage.
 *
 * A product takes all rows of the group at once, so that each weight is read, and converted, once for several of them.
 * Attention is a track's own; while one is computed, the next one's cache comes from memory. A track that is refused
 * stays in its group as a row of zeros that nobody reads, and what its caches have appended is taken back at the
 * end. */
#include "wdt_streams.h"

#include "checked.h"
#include "pooling.h"
#include "stages.h"

enum { GROUP = 16 }; /* tracks: their rows and the parts of their caches that a step reads fit a second-level cache */

/* Rows of a group, one a track. What is not needed at the same time shares memory. */
typedef struct rows {
    float *h;         /* [n, d] */
    float *x;         /* [n, d] */
    float *q, *k, *v; /* [n, Hq D], [n, Hkv D] each */
    float *out;       /* [n, Hq D] */
    float *on_inputs, *sums; /* [n, Hq, d] each, only of an absorbed model */
    float *wide;      /* of a frame, a feed-forward block, or pooled vectors, hidden ones, logits and embeddings */
} rows;

static size_t wide_floats(const wdt_model *model)
{
    const size_t answers = (size_t)model->pooled_dim + (size_t)model->embedding_hidden + (size_t)model->classes +
                           (size_t)model->embedding_dim;
    const size_t frame = (size_t)model->features, inner = (size_t)model->hidden;
    const size_t most = frame > inner ? frame : inner;
    return most > answers ? most : answers;
}

/* Floats of one row of all of `rows`. */
static size_t row_floats(const wdt_model *model)
{
    const size_t d = (size_t)model->width, heads = (size_t)model->head.q_heads, D = (size_t)model->head.head_dim;
    const size_t dkv = D * (size_t)model->head.kv_heads;
    return 2 * d + 2 * heads * D + 2 * dkv + (model->absorbed ? 2 * heads * d : 0) + wide_floats(model);
}

size_t wdt_streams_scratch_bytes(const wdt_model *model)
{
    return wdt_product(GROUP * sizeof(float), row_floats(model));
}

static rows lay_out(const wdt_model *model, void *scratch)
{
    const ptrdiff_t d = model->width, dq = (ptrdiff_t)model->head.q_heads * model->head.head_dim;
    const ptrdiff_t dkv = (ptrdiff_t)model->head.kv_heads * model->head.head_dim;
    const ptrdiff_t on_inputs = model->absorbed ? model->head.q_heads * d : 0;
    rows at;
    at.h = scratch;
    at.x = at.h + GROUP * d;
    at.q = at.x + GROUP * d;
    at.k = at.q + GROUP * dq;
    at.v = at.k + GROUP * dkv;
    at.out = at.v + GROUP * dkv;
    at.on_inputs = at.out + GROUP * dq;
    at.sums = at.on_inputs + GROUP * on_inputs;
    at.wide = at.sums + GROUP * on_inputs;
    return at;
}

/* ----------------------------------------------------------------------------------------------------- refusals */

static void zero(float *row, ptrdiff_t n)
{
    memset(row, 0, (size_t)n * sizeof *row);
}

/* For this reason, unless there was one before. */
static void refuse(const wdt_model *model, wdt_push *push, wdt_status status, float *h)
{
    push->status = push->status == WDT_OK ? status : push->status;
    zero(h, model->width);
}

/* Refuses the tracks whose row of x [n, width] has a number that no activation may have. */
static void check(const wdt_model *model, wdt_push *pushes, int n, float *x, ptrdiff_t width, const rows *at)
{
    if (wdt_first_unusable(x, (size_t)(n * width)) < 0) {
        return;
    }
    for (int r = 0; r < n; r++) {
        if (wdt_first_unusable(x + r * width, (size_t)width) >= 0) {
            refuse(model, &pushes[r], WDT_E_NON_FINITE, at->h + r * model->width);
            zero(x + r * width, width);
        }
    }
}

/* ------------------------------------------------------------------------------------------------------- stages */

/* h [n, d] of the frames */
static void enter(const wdt_model *model, wdt_push *pushes, int n, const rows *at)
{
    const ptrdiff_t F = model->features;
    float *const scaled = model->input_weight ? at->wide : at->h;
    for (int r = 0; r < n; r++) {
        wdt_push *const push = &pushes[r];
        push->status = wdt_cache_is_full(push->stream->caches) ? WDT_E_FULL : WDT_OK;
        if (wdt_first_unusable(push->frame, (size_t)F) >= 0) {
            push->status = WDT_E_NON_FINITE;
        }
        if (push->status == WDT_OK) {
            wdt_scale_frame(model, push->frame, scaled + r * F);
        } else {
            zero(scaled + r * F, F);
        }
    }
    if (model->input_weight) {
        wdt_affine(scaled, n, model->input_weight, model->input_bias, model->dtype, model->features, model->width,
                   at->h);
    }
    for (int r = 0; r < n; r++) {
        if (pushes[r].status != WDT_OK) { /* of zeros, the projection makes its bias */
            zero(at->h + r * model->width, model->width);
        }
    }
    check(model, pushes, n, at->h, model->width, at);
}

/* Asks for what the step of track r will read, if there is such a track. */
static void prefetch(const wdt_model *model, const wdt_push *pushes, int n, int r, int32_t layer)
{
    if (r < n && layer < model->layers) {
        wdt_cache_prefetch(&pushes[r].stream->caches[layer], &model->cached);
    }
}

/* Asks for the descriptions of a track's caches, which say where the rest is. */
static void prefetch_caches(const wdt_model *model, const wdt_push *push)
{
#if defined(__GNUC__)
    enum { LINE = 64 };
    const char *const caches = (const char *)push->stream->caches;
    for (size_t b = 0; b < (size_t)model->layers * sizeof(wdt_cache); b += LINE) {
        __builtin_prefetch(caches + b);
    }
#else
    (void)model, (void)push;
#endif
}

/* A step of every track: from x, q and the like to out. */
static void step_all(const wdt_model *model, wdt_push *pushes, int n, int32_t layer, const rows *at)
{
    const ptrdiff_t d = model->width, dq = (ptrdiff_t)model->head.q_heads * model->head.head_dim;
    const ptrdiff_t dkv = (ptrdiff_t)model->head.kv_heads * model->head.head_dim, heads_d = model->head.q_heads * d;
    for (int r = 0; r < n; r++) {
        float *const out = model->absorbed ? at->sums + r * heads_d : at->out + r * dq;
        wdt_status status = pushes[r].status;
        prefetch(model, pushes, n, r + 1, layer);
        if (status == WDT_OK) {
            wdt_cache *const cache = &pushes[r].stream->caches[layer];
            const float *const x = at->x + r * d;
            status = model->absorbed
                         ? wdt_step(&model->cached, cache, at->on_inputs + r * heads_d, x, x, out)
                         : wdt_step(&model->head, cache, at->q + r * dq, at->k + r * dkv, at->v + r * dkv, out);
            if (status != WDT_OK) {
                refuse(model, &pushes[r], status, at->h + r * d);
            }
        }
        if (status != WDT_OK) {
            zero(out, model->absorbed ? heads_d : dq);
        }
    }
}

/* h += Attn(norm(h)) Wo, with keys and values in the caches or, as stream.c's attend_inputs() says, with inputs. */
static void attend(const wdt_model *model, wdt_push *pushes, int n, int32_t layer, const rows *at)
{
    const wdt_attention_weights W = wdt_weights_of(model, layer);
    const wdt_kernels *const kernels = wdt_kernels_in_use();
    const int32_t d = model->width, D = model->head.head_dim, heads = model->head.q_heads;
    const int32_t dq = heads * D, dkv = model->head.kv_heads * D;
    for (int r = 0; r < n; r++) {
        wdt_normalise(at->h + r * d, model->norm, d, at->x + r * d);
    }
    wdt_affine(at->x, n, W.Wq, NULL, model->dtype, d, dq, at->q);
    check(model, pushes, n, at->q, dq, at);
    if (model->absorbed) {
        const float scale = sqrtf((float)d / (float)D);
        kernels->product_transposed(at->q, n * heads, W.Wk, model->dtype, D, d, 0, at->on_inputs);
        for (ptrdiff_t c = 0; c < (ptrdiff_t)n * heads * d; c++) {
            at->on_inputs[c] *= scale;
        }
        step_all(model, pushes, n, layer, at);
        kernels->product(at->sums, n * heads, W.Wv, model->dtype, d, D, 0, at->out);
    } else {
        wdt_affine(at->x, n, W.Wk, NULL, model->dtype, d, dkv, at->k);
        wdt_affine(at->x, n, W.Wv, NULL, model->dtype, d, dkv, at->v);
        check(model, pushes, n, at->k, dkv, at);
        check(model, pushes, n, at->v, dkv, at);
        step_all(model, pushes, n, layer, at);
    }
    kernels->product(at->out, n, W.Wo, model->dtype, dq, d, 1, at->h);
    check(model, pushes, n, at->h, d, at);
}

/* Pools, answers, and counts the frame; or takes the frame back. */
static void leave(const wdt_model *model, wdt_push *pushes, int n, const rows *at)
{
    const int32_t d = model->width, P = model->pooled_dim, C = model->classes, E = model->embedding_dim;
    float *const pooled = at->wide, *const inner = pooled + GROUP * P;
    float *const logits = inner + GROUP * model->embedding_hidden, *const embedding = logits + GROUP * C;
    for (int r = 0; r < n; r++) {
        wdt_stream *const stream = pushes[r].stream;
        if (pushes[r].status == WDT_OK) {
            wdt_pool(model, stream->pool, stream->length, at->h + r * d, pooled + r * P);
            stream->length++;
        } else {
            zero(pooled + r * P, P);
            wdt_stream_drop(stream);
        }
    }
    wdt_affine(pooled, n, model->classifier, model->classifier_bias, model->dtype, P, C, logits);
    wdt_embed(model, n, pooled, inner, embedding);
    for (int r = 0; r < n; r++) {
        if (pushes[r].status == WDT_OK) {
            memcpy(pushes[r].logits, logits + r * C, (size_t)C * sizeof *logits);
            memcpy(pushes[r].embedding, embedding + r * E, (size_t)E * sizeof *embedding);
        }
    }
}

static void push_group(const wdt_model *model, wdt_push *pushes, int n, const rows *at)
{
    enter(model, pushes, n, at);
    prefetch(model, pushes, n, 0, 0);
    for (int32_t l = 0; l < model->layers; l++) {
        attend(model, pushes, n, l, at);
        prefetch(model, pushes, n, 0, l + 1);
        if (model->feed_forward) {
            wdt_feed_forward(model, l, n, at->h, at->x, at->wide);
            check(model, pushes, n, at->h, model->width, at);
        }
    }
    leave(model, pushes, n, at);
}

void wdt_streams_push(const wdt_model *model, wdt_push *pushes, ptrdiff_t n, void *scratch)
{
    const rows at = lay_out(model, scratch);
    for (ptrdiff_t begin = 0; begin < n; begin += GROUP) {
        for (ptrdiff_t r = begin + GROUP; r < n && r < begin + 2 * GROUP; r++) {
            prefetch_caches(model, &pushes[r]);
        }
        push_group(model, pushes + begin, n - begin < GROUP ? (int)(n - begin) : GROUP, &at);
    }
}
