/* Every entry point with CONFIG_CSI_TEMPORAL_HEAD_ENABLED off. Then this file is compiled and no other, so that a
 * project which calls the head needs no switch of its own, and nothing of the core is linked. */
#include "ruv_temporal.h"
#include "sdkconfig.h"
#include "temporal_features.h"
#include "temporal_task.h"

#ifndef CONFIG_CSI_TEMPORAL_HEAD_ENABLED

ruv_temporal_options_t ruv_temporal_options_default(void)
{
    return (ruv_temporal_options_t){.mode = RUV_TEMPORAL_WINDOW, .half = 0};
}

esp_err_t ruv_temporal_init(const uint8_t *weights, size_t weights_len, uint32_t input_dim, uint32_t window_len,
                            uint32_t n_classes, ruv_temporal_ctx_t **out_ctx)
{
    (void)weights, (void)weights_len, (void)input_dim, (void)window_len, (void)n_classes, (void)out_ctx;
    return ESP_ERR_NOT_SUPPORTED;
}

esp_err_t ruv_temporal_init_with(const uint8_t *weights, size_t weights_len, uint32_t input_dim, uint32_t window_len,
                                 uint32_t n_classes, const ruv_temporal_options_t *options,
                                 ruv_temporal_ctx_t **out_ctx)
{
    (void)weights, (void)weights_len, (void)input_dim, (void)window_len, (void)n_classes, (void)options, (void)out_ctx;
    return ESP_ERR_NOT_SUPPORTED;
}

esp_err_t ruv_temporal_size(const uint8_t *weights, size_t weights_len, uint32_t input_dim, uint32_t window_len,
                            uint32_t n_classes, const ruv_temporal_options_t *options, ruv_temporal_sizes_t *out)
{
    (void)weights, (void)weights_len, (void)input_dim, (void)window_len, (void)n_classes, (void)options, (void)out;
    return ESP_ERR_NOT_SUPPORTED;
}

size_t ruv_temporal_blob_bytes(const uint8_t *region, size_t available)
{
    (void)region, (void)available;
    return 0;
}

esp_err_t ruv_temporal_push(ruv_temporal_ctx_t *ctx, const float *frame)
{
    (void)ctx, (void)frame;
    return ESP_ERR_NOT_SUPPORTED;
}

esp_err_t ruv_temporal_classify(ruv_temporal_ctx_t *ctx, float *logits, uint32_t n_classes)
{
    (void)ctx, (void)logits, (void)n_classes;
    return ESP_ERR_NOT_SUPPORTED;
}

void ruv_temporal_reset(ruv_temporal_ctx_t *ctx) { (void)ctx; }

void ruv_temporal_destroy(ruv_temporal_ctx_t *ctx) { (void)ctx; }

const struct wdt_model *ruv_temporal_model(const ruv_temporal_ctx_t *ctx)
{
    (void)ctx;
    return NULL;
}

esp_err_t ruv_temporal_kernel_self_test(void) { return ESP_ERR_NOT_SUPPORTED; }

esp_err_t temporal_task_start(const temporal_task_config_t *config)
{
    (void)config;
    return ESP_ERR_NOT_SUPPORTED;
}

esp_err_t temporal_task_push_frame(const float *frame)
{
    (void)frame;
    return ESP_ERR_NOT_SUPPORTED;
}

uint32_t temporal_task_dropped(void) { return 0; }

const struct wdt_model *temporal_task_model(void) { return NULL; }

esp_err_t temporal_task_stop(void) { return ESP_ERR_NOT_SUPPORTED; }

esp_err_t temporal_features_layout_of(const int8_t *csi, size_t values, int first_word_invalid,
                                      temporal_features_layout_t *layout)
{
    (void)csi, (void)values, (void)first_word_invalid, (void)layout;
    return ESP_ERR_NOT_SUPPORTED;
}

size_t temporal_features_bytes(const struct wdt_model *model, const temporal_features_layout_t *layout)
{
    (void)model, (void)layout;
    return 0;
}

esp_err_t temporal_features_init(void *memory, size_t bytes, const struct wdt_model *model,
                                 const temporal_features_layout_t *layout, temporal_features_t **features)
{
    (void)memory, (void)bytes, (void)model, (void)layout, (void)features;
    return ESP_ERR_NOT_SUPPORTED;
}

int64_t temporal_features_time(temporal_features_clock_t *clock, int64_t coarse_us, uint32_t stamp_us)
{
    (void)clock, (void)stamp_us;
    return coarse_us;
}

esp_err_t temporal_features_push(temporal_features_t *features, const int8_t *csi, size_t values, int64_t t_us)
{
    (void)features, (void)csi, (void)values, (void)t_us;
    return ESP_ERR_NOT_SUPPORTED;
}

esp_err_t temporal_features_next(temporal_features_t *features, float *frame)
{
    (void)features, (void)frame;
    return ESP_ERR_NOT_SUPPORTED;
}

esp_err_t temporal_features_flush(temporal_features_t *features)
{
    (void)features;
    return ESP_ERR_NOT_SUPPORTED;
}

#endif
