/* With the head switched off every call says so, and links without the core. */
#include "check.h"
#include "ruv_temporal.h"
#include "temporal_features.h"
#include "temporal_task.h"

static esp_err_t send(const uint8_t *packet, size_t length, void *user)
{
    (void)packet, (void)length, (void)user;
    return ESP_OK;
}

int main(void)
{
    static const uint8_t blob[28] = {0x45, 0x4E, 0x56, 0x52, 1};
    static _Alignas(TEMPORAL_FEATURES_ALIGNMENT) uint8_t memory[64];
    const temporal_task_config_t config = {.weights = blob, .weights_len = sizeof blob, .send = send};
    const ruv_temporal_options_t options = ruv_temporal_options_default();
    const temporal_features_layout_t layout = {128, TEMPORAL_FEATURES_FFT, 1};
    const int8_t csi[128] = {0};
    temporal_features_layout_t told;
    temporal_features_t *features = NULL;
    ruv_temporal_ctx_t *ctx = NULL;
    ruv_temporal_sizes_t sizes;
    float numbers[16] = {0};
    CHECK(ruv_temporal_init(blob, sizeof blob, 16, 32, 4, &ctx) == ESP_ERR_NOT_SUPPORTED);
    CHECK(ruv_temporal_init_with(blob, sizeof blob, 16, 32, 4, &options, &ctx) == ESP_ERR_NOT_SUPPORTED);
    CHECK(ruv_temporal_size(blob, sizeof blob, 16, 32, 4, &options, &sizes) == ESP_ERR_NOT_SUPPORTED);
    CHECK(ctx == NULL && ruv_temporal_model(ctx) == NULL && ruv_temporal_blob_bytes(blob, sizeof blob) == 0);
    CHECK(ruv_temporal_push(ctx, numbers) == ESP_ERR_NOT_SUPPORTED);
    CHECK(ruv_temporal_classify(ctx, numbers, 4) == ESP_ERR_NOT_SUPPORTED);
    CHECK(ruv_temporal_kernel_self_test() == ESP_ERR_NOT_SUPPORTED);
    ruv_temporal_reset(ctx);
    ruv_temporal_destroy(ctx);
    CHECK(temporal_task_start(&config) == ESP_ERR_NOT_SUPPORTED);
    CHECK(temporal_task_push_frame(numbers) == ESP_ERR_NOT_SUPPORTED);
    CHECK(temporal_task_dropped() == 0 && temporal_task_model() == NULL);
    CHECK(temporal_task_stop() == ESP_ERR_NOT_SUPPORTED);
    CHECK(temporal_features_layout_of(csi, sizeof csi, 0, &told) == ESP_ERR_NOT_SUPPORTED);
    CHECK(temporal_features_bytes(NULL, &layout) == 0);
    CHECK(temporal_features_init(memory, sizeof memory, NULL, &layout, &features) == ESP_ERR_NOT_SUPPORTED);
    temporal_features_clock_t clock = {0};
    CHECK(temporal_features_time(&clock, 1000000, 5) == 1000000);
    CHECK(temporal_features_push(features, csi, sizeof csi, 0) == ESP_ERR_NOT_SUPPORTED);
    CHECK(temporal_features_next(features, numbers) == ESP_ERR_NOT_SUPPORTED);
    CHECK(temporal_features_flush(features) == ESP_ERR_NOT_SUPPORTED);
    return 0;
}
