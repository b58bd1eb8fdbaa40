/* A model is a parsed .rvne blob that the head can run; a stream is one track running through it, frame by frame.
 *
 *   h_0     = (x - mean) * scale, then the input projection if the model has one
 *   h_{l+1} = h_l + Attn_l(norm(h_l)) Wo_l, then + W2 act(W1 norm(h)) if the model has feed-forward blocks
 *   pooled  = mean | last | mean of the last n | mean and spread, over the frames so far
 *   logits  = pooled Wc + bc       embedding = project(pooled) / |project(pooled)|
 *
 * Letters as in wdt_attention.h, and: F features of a frame, d = input_dim (the model's width), C classes,
 * E embedding_dim, P pooled_dim (d, or 2d with mean and spread), L layers.
 * Weights stay where the blob is, in flash or a file's bytes; the blob has to outlive model and stream. */
#ifndef WDT_MODEL_H
#define WDT_MODEL_H

#include "wdt_attention.h"
#include "wdt_chain.h"
#include "wdt_rvne.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WDT_RMS_EPSILON 1e-5f
#define WDT_MAX_POOL_FRAMES 65536u
#define WDT_MAX_POOL_FLOATS (1u << 22) /* frames * width of last-n pooling: a ring of 16 MB */

/* Weights beyond this are refused as infinity is. With activations held to WDT_MAX_VALUE, no product of the model can
 * then overflow, so that logits and embeddings are finite. */
#define WDT_MAX_WEIGHT 1e6f

typedef struct wdt_model {
    wdt_head head;
    wdt_head cached;       /* what streams' caches and steps see of it: `head`, or with `absorbed` one of the inputs */
    uint8_t absorbed;      /* 1: a stream keeps norm(h) [d] of a frame, not its key and value [D] each; see stream.c */
    int32_t features;      /* F: length of a frame */
    int32_t width;         /* d */
    int32_t layers;        /* L */
    int32_t classes;       /* C */
    int32_t pooled_dim;    /* P */
    int32_t embedding_dim; /* E */
    uint8_t dtype;         /* of the weights and of the records' tensors: WDT_FLOAT32, WDT_FLOAT16 or WDT_INT8 */
    uint8_t has_chain;     /* the blob states its feature chain */
    uint32_t norm;
    wdt_pooling_words pooling;
    wdt_chain_params chain; /* how the frames were made; the defaults without the record */
    const void *weights;                       /* per layer Wq [d, Hq D], Wk, Wv [d, Hkv D], Wo [Hq D, d] */
    ptrdiff_t layer_bytes;                     /* from one layer's Wq to the next one's */
    const void *classifier;                    /* Wc [P, C] */
    const void *classifier_bias;               /* bc [C], or NULL */
    const uint8_t *feature_mean, *feature_scale; /* [F] float32 each, not aligned, or NULL */
    const void *input_weight, *input_bias;     /* [F, d], [d], or NULL */
    int32_t hidden;                            /* of the feed-forward blocks, 0 without them */
    uint32_t activation;
    const void *feed_forward; /* per layer W1 [d, hidden], W2 [hidden, d] */
    int32_t embedding_hidden; /* 0: the projection is one affine layer */
    const void *embedding_weight[2], *embedding_bias[2]; /* [P, H], [H], then relu, [H, E], [E]; or NULL */
} wdt_model;

/* Reads a parsed blob as a model. The blob's bytes start at a multiple of 4 (WDT_E_ALIGNMENT otherwise).
 * WDT_E_MODEL: `why`, if not NULL, receives a sentence that says what does not fit; *model is then untouched. */
wdt_status wdt_model_init(wdt_model *model, const wdt_rvne *blob, const char **why);

typedef struct wdt_stream {
    const wdt_model *model;
    wdt_cache *caches;  /* [L] */
    float *pool;        /* what the pooling keeps */
    float *hidden;      /* h [d] */
    float *scratch;
    ptrdiff_t length;   /* frames so far */
    ptrdiff_t capacity; /* frames that its caches hold: with wdt_refuse it takes no more */
} wdt_stream;

/* Bytes of memory for a stream with a cache of this configuration for each layer; SIZE_MAX if not addressable. Of
 * config->form WDT_CACHE_HALF counts: float16 caches, of keys and values or, with `absorbed`, of the layers' inputs:
 * these are about 1 behind a norm, and have to be made so without. */
size_t wdt_stream_bytes(const wdt_model *model, const wdt_cache_config *config);

/* Lays an empty stream out in `memory` (wdt_stream_bytes() of them, aligned for any type). WDT_E_CONFIG, also for
 * wdt_h2o_compact: no frame has scores. */
wdt_status wdt_stream_init(wdt_stream *stream, const wdt_model *model, const wdt_cache_config *config, void *memory);

/* The same without what only a push needs: what a stream keeps from one frame to the next. Such a stream is for
 * wdt_streams_push() (wdt_streams.h), which brings the rest, and for drop and reset. */
size_t wdt_stream_state_bytes(const wdt_model *model, const wdt_cache_config *config);
wdt_status wdt_stream_init_state(wdt_stream *stream, const wdt_model *model, const wdt_cache_config *config,
                                 void *memory);

/* Runs frame [F], finite, and writes logits [C] and embedding [E] as of this frame. WDT_E_FULL, WDT_E_HALF_RANGE,
 * WDT_E_NON_FINITE (an activation beyond WDT_MAX_VALUE): the stream behaves as if the call had not been made. */
wdt_status wdt_stream_push(wdt_stream *stream, const float *frame, float *logits, float *embedding);

/* The two halves of a push, for a caller that runs one frame through several streams and keeps all or none. What can be
 * refused is refused by run, as above; after it, and before anything else of this stream, either keep or drop. */
wdt_status wdt_stream_run(wdt_stream *stream, const float *frame);
void wdt_stream_keep(wdt_stream *stream, float *logits, float *embedding); /* of these, NULL is not computed */
void wdt_stream_drop(wdt_stream *stream);

/* Takes a frame whose pooled vector nobody will ask for: as a push without answers, but of the last layer it computes
 * only what later frames attend to. The refusals are a push's, less those of what is not computed. The next push has to
 * be at least wdt_model_pooled_frames() frames later than the last one that was taken so. With wdt_heavy_hitter the
 * whole layer is computed, because what the frame attends to decides what leaves. */
wdt_status wdt_stream_remember(wdt_stream *stream, const float *frame);

/* Newest frames that a pooled vector is made of; 0: all, and then no frame can be remembered only. */
ptrdiff_t wdt_model_pooled_frames(const wdt_model *model);

/* Forgets every frame. */
void wdt_stream_reset(wdt_stream *stream);

#ifdef __cplusplus
}
#endif
#endif
