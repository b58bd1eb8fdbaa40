/* A node: CSI from the WiFi driver, features, the temporal head, one UDP packet a second.
 *
 *     WiFi task      receive()     copies a buffer into a queue, and returns
 *     csi task       run()         buffer -> frames of the model -> queue of the head's task
 *     head's task    (component)   frames -> logits -> packet -> network_send()
 *
 * All memory of this file is fixed. The blob lies in the flash partition `model`, or is an array of main/model.h, and is
 * read there. */
#include <stdatomic.h>
#include <string.h>

#include "esp_err.h"
#include "esp_log.h"
#include "esp_partition.h"
#include "esp_timer.h"
#include "freertos/FreeRTOS.h"
#include "freertos/queue.h"
#include "freertos/task.h"
#include "network.h"
#include "nvs_flash.h"
#include "ruv_temporal.h"
#include "sdkconfig.h"
#include "temporal_features.h"
#include "temporal_task.h"

#if CONFIG_CSI_NODE_EMBEDDED_MODEL
#include "model.h" /* made by `wdt node header` */
#endif

#define CSI_VALUES 128 /* the legacy field of 64 subcarriers */
#define QUEUE_BUFFERS 16
#define FEATURE_BYTES 9216 /* temporal_features_bytes() of the model; `activity` takes 6.5 KB */
#define STACK_BYTES 4096

static const char *const TAG = "csi_node";

typedef struct {
    int64_t coarse_us;     /* esp_timer's clock, when the driver handed it over */
    uint32_t stamp_us;     /* the WiFi clock at reception; wraps */
    uint32_t connection;   /* of network.h */
    uint8_t first_word_invalid;
    int8_t csi[CSI_VALUES];
} buffer_t;

static QueueHandle_t buffers;
static uint8_t queue_memory[QUEUE_BUFFERS * sizeof(buffer_t)];
static StaticQueue_t queue_state;
static StaticTask_t task_state;
static StackType_t task_stack[STACK_BYTES / sizeof(StackType_t)];

/* What became of buffers, for the line in the log. */
static struct {
    atomic_uint_least32_t received, lost; /* of the right length; of those, found the queue full */
    atomic_uint_least32_t other_length;
    atomic_uint_least32_t without_order; /* came before one showed where the subcarriers lie */
    atomic_uint_least32_t refused;       /* by the features: all zero, or late */
} counts;

static _Alignas(TEMPORAL_FEATURES_ALIGNMENT) uint8_t feature_memory[FEATURE_BYTES];
static float frame[CONFIG_TEMPORAL_INPUT_DIM];

/* ---------------------------------------------------------------------------------------------------------- packets */

/* In the WiFi task, which must not be kept: the driver takes `info` back when this returns. */
static void receive(const wifi_csi_info_t *info, uint32_t connection)
{
    static buffer_t buffer;
    if (info->len != CSI_VALUES) {
        atomic_fetch_add(&counts.other_length, 1);
        return;
    }
    atomic_fetch_add(&counts.received, 1);
    buffer.coarse_us = esp_timer_get_time();
    buffer.stamp_us = info->rx_ctrl.timestamp;
    buffer.connection = connection;
    buffer.first_word_invalid = info->first_word_invalid ? 1 : 0;
    memcpy(buffer.csi, info->buf, sizeof buffer.csi);
    if (xQueueSend(buffers, &buffer, 0) != pdTRUE) {
        atomic_fetch_add(&counts.lost, 1);
    }
}

/* Makes the chain when a buffer shows where the subcarriers lie. NULL until then. */
static temporal_features_t *begin(const buffer_t *buffer)
{
    temporal_features_layout_t layout;
    temporal_features_t *features = NULL;
    if (temporal_features_layout_of(buffer->csi, CSI_VALUES, buffer->first_word_invalid, &layout) != ESP_OK) {
        return NULL;
    }
    const struct wdt_model *const model = temporal_task_model();
    const esp_err_t error = temporal_features_init(feature_memory, sizeof feature_memory, model, &layout, &features);
    if (error != ESP_OK) {
        ESP_LOGE(TAG, "no features (0x%x): they take %lu of %lu bytes", (unsigned)error,
                 (unsigned long)temporal_features_bytes(model, &layout), (unsigned long)sizeof feature_memory);
        vTaskDelete(NULL);
    }
    return features;
}

static void take(temporal_features_t *features, const buffer_t *buffer, int64_t t_us)
{
    if (temporal_features_push(features, buffer->csi, CSI_VALUES, t_us) != ESP_OK) {
        atomic_fetch_add(&counts.refused, 1);
        return;
    }
    while (temporal_features_next(features, frame) == ESP_OK) {
        (void)temporal_task_push_frame(frame); /* a full queue is counted and logged there */
    }
}

/* A connection has a chain of its own: the next access point may be another, on another channel. */
static void run(void *unused)
{
    static buffer_t buffer;
    temporal_features_t *features = NULL;
    temporal_features_clock_t clock = {0};
    uint32_t connection = 0;
    (void)unused;
    for (;;) {
        (void)xQueueReceive(buffers, &buffer, portMAX_DELAY);
        if (buffer.connection != connection) {
            features = NULL;
            connection = buffer.connection;
        }
        const int64_t t_us = temporal_features_time(&clock, buffer.coarse_us, buffer.stamp_us);
        if (features == NULL) {
            features = begin(&buffer);
        }
        if (features != NULL) {
            take(features, &buffer, t_us);
        } else {
            atomic_fetch_add(&counts.without_order, 1);
        }
    }
}

/* ------------------------------------------------------------------------------------------------------------ model */

#if CONFIG_CSI_NODE_EMBEDDED_MODEL

static size_t find_blob(const uint8_t **blob)
{
    *blob = model_blob;
    return sizeof model_blob;
}

#else

/* Maps the partition `model`: bytes of its blob, or 0, and it is logged why. */
static size_t find_blob(const uint8_t **blob)
{
    esp_partition_mmap_handle_t handle; /* mapped for good */
    const void *mapped;
    const esp_partition_t *const partition =
        esp_partition_find_first(ESP_PARTITION_TYPE_DATA, ESP_PARTITION_SUBTYPE_ANY, "model");
    if (partition == NULL) {
        ESP_LOGE(TAG, "no partition `model`: see partitions.csv");
        return 0;
    }
    const esp_err_t error =
        esp_partition_mmap(partition, 0, partition->size, ESP_PARTITION_MMAP_DATA, &mapped, &handle);
    if (error != ESP_OK) {
        ESP_LOGE(TAG, "the partition `model` cannot be mapped (0x%x): no free pages, or no memory", (unsigned)error);
        return 0;
    }
    *blob = mapped;
    const size_t bytes = ruv_temporal_blob_bytes(mapped, partition->size);
    if (bytes == 0) {
        ESP_LOGE(TAG, "no blob in the partition `model`: write one with parttool.py");
    }
    return bytes;
}

#endif

static void open_storage(void)
{
    esp_err_t error = nvs_flash_init(); /* where the WiFi driver keeps its calibration */
    if (error == ESP_ERR_NVS_NO_FREE_PAGES || error == ESP_ERR_NVS_NEW_VERSION_FOUND) {
        ESP_ERROR_CHECK(nvs_flash_erase());
        error = nvs_flash_init();
    }
    ESP_ERROR_CHECK(error);
}

/* Everything that a restart would not cure is logged, and ends here: a node that restarts over and over says less. */
static int begin_head(void)
{
    temporal_task_config_t head = {.node_id = CONFIG_CSI_NODE_ID, .send = network_send};
    head.weights_len = find_blob(&head.weights);
    if (head.weights_len == 0) {
        return 0;
    }
    const esp_err_t error = temporal_task_start(&head); /* logs what is wrong with a blob */
    if (error != ESP_OK) {
        ESP_LOGE(TAG, "the head does not start (0x%x): nothing is measured", (unsigned)error);
    }
    return error == ESP_OK;
}

void app_main(void)
{
#ifndef CONFIG_CSI_TEMPORAL_HEAD_ENABLED
    ESP_LOGE(TAG, "the temporal head is switched off in menuconfig");
#endif
    open_storage();
    if (network_open() != ESP_OK || !begin_head()) {
        return;
    }
    buffers = xQueueCreateStatic(QUEUE_BUFFERS, sizeof(buffer_t), queue_memory, &queue_state);
    (void)xTaskCreateStatic(run, "csi", sizeof task_stack, NULL, TEMPORAL_TASK_PRIORITY + 1, task_stack, &task_state);
    ESP_ERROR_CHECK(network_start(receive));
    for (;;) {
        vTaskDelay(pdMS_TO_TICKS(10000));
        ESP_LOGI(TAG,
                 "CSI buffers: %lu received (%lu lost, %lu without order, %lu refused), %lu of another length; %lu "
                 "frames dropped",
                 (unsigned long)atomic_load(&counts.received), (unsigned long)atomic_load(&counts.lost),
                 (unsigned long)atomic_load(&counts.without_order), (unsigned long)atomic_load(&counts.refused),
                 (unsigned long)atomic_load(&counts.other_length), (unsigned long)temporal_task_dropped());
    }
}
