/* ruv_temporal.h over the core: one allocation, and which frames go through the model when.
 *
 * The allocation, in this order: the context, the window's frames, one stream's memory or two, the logits. Each begins
 * at a multiple of ALIGNMENT from the allocation's start. */
#include "ruv_temporal.h"

#include <stdlib.h>
#include <string.h>

#include "sdkconfig.h"
#include "wdt_model.h"

#define ALIGNMENT 16u

struct RuvTemporalCtx {
    wdt_model model;
    ruv_temporal_mode_t mode;
    uint32_t window_len;
    uint32_t held;        /* frames that classify speaks of; 0: none yet */
    uint32_t next;        /* WINDOW: the ring's row for the next frame */
    float *window;        /* WINDOW: ring [window_len, F] */
    float *logits;        /* SESSION: [C] */
    wdt_stream stream[2]; /* WINDOW: the first alone */
    uint32_t count[2];    /* SESSION: frames that each stream has; one of window_len starts over with the next */
};

/* What was asked for, beside the model that the blob has. */
typedef struct request {
    uint32_t input_dim, window_len, n_classes;
    const ruv_temporal_options_t *options;
} request;

ruv_temporal_options_t ruv_temporal_options_default(void)
{
    ruv_temporal_options_t options = {.mode = RUV_TEMPORAL_WINDOW, .half = 0};
#ifdef CONFIG_TEMPORAL_MODE_SESSION
    options.mode = RUV_TEMPORAL_SESSION;
#endif
#ifdef CONFIG_TEMPORAL_CACHE_FLOAT16
    options.half = 1;
#endif
    return options;
}

/* ------------------------------------------------------------------------------------------------------- refusals */

static esp_err_t error_of(wdt_status status)
{
    switch (status) {
    case WDT_OK:
        return ESP_OK;
    case WDT_E_TOO_SHORT:
    case WDT_E_MAGIC:
    case WDT_E_FLAGS:
    case WDT_E_LENGTH:
    case WDT_E_ALIGNMENT:
        return ESP_ERR_INVALID_ARG;
    case WDT_E_VERSION:
    case WDT_E_RECORD:
        return ESP_ERR_INVALID_VERSION;
    case WDT_E_CRC:
        return ESP_ERR_INVALID_CRC;
    case WDT_E_DIMS:
    case WDT_E_HEAD_RATIO:
    case WDT_E_DEGENERATE:
    case WDT_E_MODEL:
        return ESP_ERR_INVALID_SIZE;
    default: /* of a frame: WDT_E_NON_FINITE, WDT_E_HALF_RANGE */
        return ESP_FAIL;
    }
}

static uint32_t word_at(const uint8_t *bytes, size_t offset)
{
    uint32_t word = 0;
    for (size_t b = 4; b > 0; b--) {
        word = word << 8 | bytes[offset + b - 1];
    }
    return word;
}

size_t ruv_temporal_blob_bytes(const uint8_t *region, size_t available)
{
    if (region == NULL || available < WDT_RVNE_HEADER_BYTES || word_at(region, 0x00) != WDT_RVNE_MAGIC) {
        return 0;
    }
    uint64_t bytes = (uint64_t)WDT_RVNE_HEADER_BYTES + word_at(region, 0x14); /* of 32-bit fields: no overflow */
    if (region[0x06] & WDT_FLAG_RECORDS) {
        if (bytes + 4 > available) {
            return 0;
        }
        bytes += 4 + (uint64_t)word_at(region, (size_t)bytes);
    }
    bytes += WDT_RVNE_CRC_BYTES;
    return bytes <= available ? (size_t)bytes : 0;
}

/* Reads the blob as the model that was asked for. */
static esp_err_t read_model(const uint8_t *weights, size_t weights_len, const request *asked, wdt_model *model)
{
    const ruv_temporal_options_t *const options = asked->options;
    if (weights == NULL || options == NULL || asked->input_dim == 0 || asked->window_len == 0 ||
        asked->n_classes == 0 || (options->mode != RUV_TEMPORAL_WINDOW && options->mode != RUV_TEMPORAL_SESSION)) {
        return ESP_ERR_INVALID_ARG;
    }
    wdt_rvne blob;
    wdt_status status = wdt_rvne_parse(weights, weights_len, &blob);
    if (status == WDT_OK) {
        status = wdt_model_init(model, &blob, NULL);
    }
    if (status != WDT_OK) {
        return error_of(status);
    }
    const int fits = (uint32_t)model->features == asked->input_dim && (uint32_t)model->classes == asked->n_classes;
    return fits ? ESP_OK : ESP_ERR_INVALID_ARG;
}

/* ---------------------------------------------------------------------------------------------------------- memory */

/* *total += count * size, rounded up to ALIGNMENT and written to *part; 0 where that cannot be addressed. */
static int add_part(size_t count, size_t size, size_t *part, size_t *total)
{
    if (size != 0 && count > (SIZE_MAX - ALIGNMENT) / size) {
        return 0;
    }
    *part = (count * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (*part > SIZE_MAX - *total) {
        return 0;
    }
    *total += *part;
    return 1;
}

/* What each layer keeps: the frames of a window, and no more. */
static wdt_cache_config caches_of(const request *asked)
{
    return (wdt_cache_config){.capacity = (ptrdiff_t)asked->window_len,
                              .form = asked->options->half ? WDT_CACHE_HALF : 0};
}

static esp_err_t sizes_of(const wdt_model *model, const request *asked, ruv_temporal_sizes_t *out)
{
    const int session = asked->options->mode == RUV_TEMPORAL_SESSION;
    const size_t frames = asked->window_len; /* a ptrdiff_t of 32 bits does not hold every one of them */
    ruv_temporal_sizes_t sizes = {0};
    if (frames > PTRDIFF_MAX) {
        return ESP_ERR_NO_MEM;
    }
    const wdt_cache_config config = caches_of(asked);
    size_t stream = wdt_stream_bytes(model, &config);
    const size_t frame = (size_t)model->features * sizeof(float); /* F is at most 65535 */
    size_t none = 0;
    const int fits = add_part(1, stream, &stream, &none) && /* rounds it up */
                     add_part(1, sizeof(ruv_temporal_ctx_t), &sizes.context, &sizes.total) &&
                     add_part(session ? 0 : frames, frame, &sizes.window, &sizes.total) &&
                     add_part(session ? 2 : 1, stream, &sizes.streams, &sizes.total) &&
                     add_part(session ? (size_t)model->classes : 0, sizeof(float), &sizes.logits, &sizes.total);
    if (!fits) {
        return ESP_ERR_NO_MEM;
    }
    *out = sizes;
    return ESP_OK;
}

esp_err_t ruv_temporal_size(const uint8_t *weights, size_t weights_len, uint32_t input_dim, uint32_t window_len,
                            uint32_t n_classes, const ruv_temporal_options_t *options, ruv_temporal_sizes_t *out)
{
    const request asked = {input_dim, window_len, n_classes, options};
    wdt_model model;
    if (out == NULL) {
        return ESP_ERR_INVALID_ARG;
    }
    const esp_err_t error = read_model(weights, weights_len, &asked, &model);
    return error == ESP_OK ? sizes_of(&model, &asked, out) : error;
}

/* Points the context's arrays at the memory behind it, in the order of the sizes, and makes the streams. */
static esp_err_t lay_out(ruv_temporal_ctx_t *ctx, const ruv_temporal_sizes_t *sizes, const request *asked)
{
    const int session = asked->options->mode == RUV_TEMPORAL_SESSION;
    const size_t stream = sizes->streams / (session ? 2 : 1);
    const wdt_cache_config config = caches_of(asked);
    char *at = (char *)ctx + sizes->context;
    ctx->window = session ? NULL : (float *)(void *)at;
    at += sizes->window;
    wdt_status status = WDT_OK;
    for (int s = 0; s < (session ? 2 : 1) && status == WDT_OK; s++, at += stream) {
        status = wdt_stream_init(&ctx->stream[s], &ctx->model, &config, at);
    }
    ctx->logits = session ? (float *)(void *)at : NULL;
    return error_of(status);
}

esp_err_t ruv_temporal_init_with(const uint8_t *weights, size_t weights_len, uint32_t input_dim, uint32_t window_len,
                                 uint32_t n_classes, const ruv_temporal_options_t *options,
                                 ruv_temporal_ctx_t **out_ctx)
{
    const request asked = {input_dim, window_len, n_classes, options};
    wdt_model model;
    ruv_temporal_sizes_t sizes;
    if (out_ctx == NULL) {
        return ESP_ERR_INVALID_ARG;
    }
    esp_err_t error = read_model(weights, weights_len, &asked, &model);
    if (error == ESP_OK) {
        error = sizes_of(&model, &asked, &sizes);
    }
    if (error != ESP_OK) {
        return error;
    }
    ruv_temporal_ctx_t *const ctx = malloc(sizes.total);
    if (ctx == NULL) {
        return ESP_ERR_NO_MEM;
    }
    *ctx = (ruv_temporal_ctx_t){.mode = options->mode, .window_len = window_len};
    ctx->model = model;
    error = lay_out(ctx, &sizes, &asked);
    if (error != ESP_OK) {
        free(ctx);
        return error;
    }
    *out_ctx = ctx;
    return ESP_OK;
}

esp_err_t ruv_temporal_init(const uint8_t *weights, size_t weights_len, uint32_t input_dim, uint32_t window_len,
                            uint32_t n_classes, ruv_temporal_ctx_t **out_ctx)
{
    const ruv_temporal_options_t options = ruv_temporal_options_default();
    return ruv_temporal_init_with(weights, weights_len, input_dim, window_len, n_classes, &options, out_ctx);
}

void ruv_temporal_destroy(ruv_temporal_ctx_t *ctx)
{
    free(ctx);
}

void ruv_temporal_reset(ruv_temporal_ctx_t *ctx)
{
    if (ctx != NULL) {
        ctx->held = ctx->next = 0; /* classify resets the window's stream */
        for (int s = 0; ctx->mode == RUV_TEMPORAL_SESSION && s < 2; s++) {
            wdt_stream_reset(&ctx->stream[s]);
            ctx->count[s] = 0;
        }
    }
}

const struct wdt_model *ruv_temporal_model(const ruv_temporal_ctx_t *ctx)
{
    return ctx != NULL ? &ctx->model : NULL;
}

/* ---------------------------------------------------------------------------------------------------------- window */

static void push_window(ruv_temporal_ctx_t *ctx, const float *frame)
{
    const size_t F = (size_t)ctx->model.features;
    memcpy(ctx->window + ctx->next * F, frame, F * sizeof *frame);
    ctx->next = ctx->next + 1 < ctx->window_len ? ctx->next + 1 : 0;
    ctx->held += ctx->held < ctx->window_len;
}

/* Runs the ring's frames, oldest first, through an empty stream. Those that the pooling does not ask for are remembered
 * only. */
static wdt_status classify_window(ruv_temporal_ctx_t *ctx, float *logits)
{
    wdt_stream *const stream = &ctx->stream[0];
    const size_t F = (size_t)ctx->model.features;
    const ptrdiff_t pooled = wdt_model_pooled_frames(&ctx->model);
    uint32_t row = ctx->held < ctx->window_len ? 0 : ctx->next;
    wdt_stream_reset(stream);
    for (uint32_t left = ctx->held; left > 0; left--) {
        const float *const frame = ctx->window + row * F;
        const int asked = pooled == 0 || left <= (size_t)pooled;
        const wdt_status status = asked ? wdt_stream_run(stream, frame) : wdt_stream_remember(stream, frame);
        if (status != WDT_OK) {
            return status;
        }
        if (asked) {
            wdt_stream_keep(stream, left == 1 ? logits : NULL, NULL);
        }
        row = row + 1 < ctx->window_len ? row + 1 : 0;
    }
    return WDT_OK;
}

/* --------------------------------------------------------------------------------------------------------- session */

/* Runs the frame through one of the streams; a full one starts over, which cannot be taken back. */
static wdt_status run_stream(ruv_temporal_ctx_t *ctx, int s, const float *frame)
{
    if (ctx->count[s] == ctx->window_len) {
        wdt_stream_reset(&ctx->stream[s]);
    }
    return wdt_stream_run(&ctx->stream[s], frame);
}

/* Frames that the stream has with one more. */
static uint32_t count_with(const ruv_temporal_ctx_t *ctx, int s)
{
    return ctx->count[s] == ctx->window_len ? 1 : ctx->count[s] + 1;
}

static void keep_stream(ruv_temporal_ctx_t *ctx, int s, float *logits)
{
    ctx->count[s] = count_with(ctx, s);
    wdt_stream_keep(&ctx->stream[s], logits, NULL);
}

/* Runs the frame through both streams, and keeps it in both or in neither. The one that starts over runs last: if it
 * refuses, its frames are lost, but it still counts as full and will start over with the next frame anyway. */
static wdt_status push_session(ruv_temporal_ctx_t *ctx, const float *frame)
{
    const uint32_t half = ctx->window_len / 2 > 0 ? ctx->window_len / 2 : 1;
    const int last = ctx->count[0] == ctx->window_len ? 0 : 1, other = 1 - last;
    const int joins = last == 0 || ctx->count[1] > 0 || ctx->count[0] >= half;
    wdt_status status = run_stream(ctx, other, frame);
    if (status != WDT_OK) {
        return status;
    }
    if (joins) {
        status = run_stream(ctx, last, frame);
        if (status != WDT_OK) {
            wdt_stream_drop(&ctx->stream[other]);
            return status;
        }
    }
    const int last_leads = joins && count_with(ctx, last) > count_with(ctx, other);
    keep_stream(ctx, other, last_leads ? NULL : ctx->logits);
    if (joins) {
        keep_stream(ctx, last, last_leads ? ctx->logits : NULL);
    }
    ctx->held = ctx->count[last_leads ? last : other];
    return WDT_OK;
}

/* -------------------------------------------------------------------------------------------------------- the calls */

esp_err_t ruv_temporal_push(ruv_temporal_ctx_t *ctx, const float *frame)
{
    if (ctx == NULL || frame == NULL || wdt_first_unusable(frame, (size_t)ctx->model.features) >= 0) {
        return ESP_ERR_INVALID_ARG;
    }
    if (ctx->mode == RUV_TEMPORAL_SESSION) {
        return error_of(push_session(ctx, frame));
    }
    push_window(ctx, frame);
    return ESP_OK;
}

esp_err_t ruv_temporal_classify(ruv_temporal_ctx_t *ctx, float *logits, uint32_t n_classes)
{
    if (ctx == NULL || logits == NULL || n_classes != (uint32_t)ctx->model.classes) {
        return ESP_ERR_INVALID_ARG;
    }
    if (ctx->held == 0) {
        return ESP_ERR_INVALID_STATE;
    }
    if (ctx->mode == RUV_TEMPORAL_WINDOW) {
        return error_of(classify_window(ctx, logits));
    }
    memcpy(logits, ctx->logits, n_classes * sizeof *logits);
    return ESP_OK;
}
