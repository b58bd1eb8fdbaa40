/* The temporal head on a node: frames in, logits of the newest frames out.
 *
 * What this is: a C ABI over the core (core/include). A blob (.rvne) is read where it lies, in flash or mapped; init
 * makes one allocation, and nothing after it allocates.
 * What it is not: it makes no frames (temporal_features.h), has no task (temporal_task.h), and is not locked: one task
 * owns a context. With CONFIG_CSI_TEMPORAL_HEAD_ENABLED off, every call is ESP_ERR_NOT_SUPPORTED.
 *
 *     ruv_temporal_init(blob, blob_bytes, 16, 256, 4, &ctx);
 *     for every frame:  ruv_temporal_push(ctx, frame);
 *     when asked:       ruv_temporal_classify(ctx, logits, 4);
 */
#ifndef RUV_TEMPORAL_H
#define RUV_TEMPORAL_H

#include <stddef.h>
#include <stdint.h>

#include "esp_err.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct RuvTemporalCtx ruv_temporal_ctx_t;

/* Which frames classify speaks of. Either way it equals the host's model.predict on just those, oldest first.
 *   WINDOW   the newest window_len frames. push copies a frame; classify runs all of them through the model: the first
 *            frame of a window is a candidate of every later one, so that what was computed before a frame left the
 *            window is of no use after it.
 *   SESSION  all frames so far up to window_len / 2, and from then on between window_len / 2 + 1 and window_len of the
 *            newest. push runs the frame through two streams, each of which starts over when it holds window_len,
 *            half a window apart; classify copies what the longer one has. */
typedef enum { RUV_TEMPORAL_WINDOW = 0, RUV_TEMPORAL_SESSION = 1 } ruv_temporal_mode_t;

typedef struct {
    ruv_temporal_mode_t mode;
    uint8_t half; /* 1: cached keys and values are float16, half the memory; 0: float32 */
} ruv_temporal_options_t;

/* What menuconfig chose: CONFIG_TEMPORAL_MODE_SESSION, CONFIG_TEMPORAL_CACHE_FLOAT16. */
ruv_temporal_options_t ruv_temporal_options_default(void);

/* Makes a context. Takes about 2.6 KB of stack, which is most of what ESP-IDF gives app_main.
 *   weights, weights_len  the blob; borrowed until destroy, at a multiple of 4
 *   input_dim             features of a frame, F
 *   window_len            frames, at least 1
 *   n_classes             C
 *   out_ctx               out; untouched on a refusal
 * ESP_ERR_INVALID_ARG      a NULL, a zero, another input_dim or n_classes than the blob's; a blob that is too short,
 *                          none at all, has unknown flags, another length than it states, or is not aligned
 * ESP_ERR_INVALID_VERSION  a blob of another version, or with records that are malformed or unknown and critical
 * ESP_ERR_INVALID_CRC      a damaged blob
 * ESP_ERR_INVALID_SIZE     dims that are no model's, or tensors that do not fit them
 * ESP_ERR_NO_MEM           the one allocation failed, or is more than can be addressed */
esp_err_t ruv_temporal_init(const uint8_t *weights, size_t weights_len, uint32_t input_dim, uint32_t window_len,
                            uint32_t n_classes, ruv_temporal_ctx_t **out_ctx);

/* The same with other options than menuconfig's; ESP_ERR_INVALID_ARG also for an unknown mode. */
esp_err_t ruv_temporal_init_with(const uint8_t *weights, size_t weights_len, uint32_t input_dim, uint32_t window_len,
                                 uint32_t n_classes, const ruv_temporal_options_t *options,
                                 ruv_temporal_ctx_t **out_ctx);

/* Bytes of each part of the allocation. */
typedef struct {
    size_t total;   /* what init asks the heap for: the sum of these */
    size_t context; /* counters, and the model as read from the blob */
    size_t window;  /* WINDOW: the newest frames [window_len, F] */
    size_t streams; /* caches, pooling, scratch: of one stream, or of SESSION's two */
    size_t logits;  /* SESSION: [C] as of the newest frame */
} ruv_temporal_sizes_t;

/* What init_with would allocate; its refusals, and no allocation. */
esp_err_t ruv_temporal_size(const uint8_t *weights, size_t weights_len, uint32_t input_dim, uint32_t window_len,
                            uint32_t n_classes, const ruv_temporal_options_t *options, ruv_temporal_sizes_t *out);

/* Bytes of the blob that a region of `available` bytes begins with: a flash partition is larger than what was written
 * to it, and init takes a blob's exact length. 0: none begins there, or the region ends within it. Checks no more. */
size_t ruv_temporal_blob_bytes(const uint8_t *region, size_t available);

/* Takes frame [F], which is copied. A refusal changes nothing:
 * ESP_ERR_INVALID_ARG  a NULL, or a number that is NaN, infinite or beyond +-1e12 (WDT_MAX_VALUE)
 * ESP_FAIL             SESSION: inside the model a number overflows, or does not fit a float16 cache */
esp_err_t ruv_temporal_push(ruv_temporal_ctx_t *ctx, const float *frame);

/* Writes logits [C], and nothing on a refusal.
 * ESP_ERR_INVALID_ARG    a NULL, or another n_classes than init's
 * ESP_ERR_INVALID_STATE  no frame yet
 * ESP_FAIL               WINDOW: as of push; goes on until the frame at fault has left the window, or reset */
esp_err_t ruv_temporal_classify(ruv_temporal_ctx_t *ctx, float *logits, uint32_t n_classes);

/* Forgets every frame. NULL is fine here and for destroy. */
void ruv_temporal_reset(ruv_temporal_ctx_t *ctx);

/* Gives the allocation back. */
void ruv_temporal_destroy(ruv_temporal_ctx_t *ctx);

/* The model of the blob (wdt_model.h), for the feature chain; lives as long as the context. NULL of NULL. */
struct wdt_model;
const struct wdt_model *ruv_temporal_model(const ruv_temporal_ctx_t *ctx);

/* Runs checksum, float16 conversion and attention on known numbers: ESP_OK, or ESP_FAIL where compiler, library or chip
 * computes something else. Takes no heap, and about 2 KB of stack, most of it a step of the cache. */
esp_err_t ruv_temporal_kernel_self_test(void);

#ifdef __cplusplus
}
#endif
#endif
