/* The head in a task of its own: frames in through a queue, a packet out at every period.
 *
 * The task checks the chip (ruv_temporal_kernel_self_test), makes a context with menuconfig's dims, takes frames out of
 * a queue of 32, and each CONFIG_TEMPORAL_CLASSIFY_PERIOD_MS sends one packet, 0xC5110007 of 40 bytes (wdt_wire.h). A
 * period without a new frame sends none: an old decision is never sent again. There is one task at a time.
 * A decision has to take less than the period, and than 32 frames take to come. One that takes longer than the period is
 * logged; the next is due a period after its end, and the task sleeps a tick, so that tasks below it run.
 *
 * All of this may be called from any task, at the same time too, but not from an interrupt; stop not from the sender.
 * With CONFIG_CSI_TEMPORAL_HEAD_ENABLED off, every call is ESP_ERR_NOT_SUPPORTED. */
#ifndef TEMPORAL_TASK_H
#define TEMPORAL_TASK_H

#include <stddef.h>
#include <stdint.h>

#include "esp_err.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TEMPORAL_TASK_QUEUE_FRAMES 32
#define TEMPORAL_TASK_STACK_BYTES 16384
#define TEMPORAL_TASK_PRIORITY 4
#define TEMPORAL_TASK_CORE 1 /* core 0 has the WiFi; a chip with one core has it all there */

/* Sends a packet, in the task, which waits for it. What is not ESP_OK is logged; the packet is then lost. */
typedef esp_err_t (*temporal_send_t)(const uint8_t *packet, size_t length, void *user);

typedef struct {
    const uint8_t *weights; /* the blob, as for ruv_temporal_init: borrowed until stop has returned */
    size_t weights_len;
    uint8_t node_id; /* in every packet */
    temporal_send_t send;
    void *user; /* for send */
} temporal_task_config_t;

/* Starts the task, and returns when it has tested the chip and made its context; `config` is copied. What is wrong is
 * logged, with the blob's dims and menuconfig's.
 * ESP_ERR_INVALID_ARG a NULL, or as of ruv_temporal_init, whose other errors it returns too; ESP_ERR_INVALID_STATE if a
 * task is there already; ESP_ERR_NO_MEM; ESP_FAIL of the self-test. */
esp_err_t temporal_task_start(const temporal_task_config_t *config);

/* Copies frame [CONFIG_TEMPORAL_INPUT_DIM] into the queue, and never waits.
 * ESP_ERR_NOT_FOUND: no task is running. ESP_ERR_TIMEOUT: the queue is full, and the frame is dropped and counted.
 * ESP_ERR_INVALID_ARG: NULL. A frame that the head refuses is logged by the task. */
esp_err_t temporal_task_push_frame(const float *frame);

/* Frames that found the queue full since the newest start. */
uint32_t temporal_task_dropped(void);

/* The model of the blob (wdt_model.h), for the features; NULL where no task is running. It is good until stop, which
 * must not run while it is used. */
struct wdt_model;
const struct wdt_model *temporal_task_model(void);

/* Ends the task, and returns when queue and context are freed; frames in the queue are dropped. Another start may
 * follow, which counts packets from 0 again. At once it needs the memory of a second stack: FreeRTOS frees a task's only
 * when its idle task runs. ESP_ERR_INVALID_STATE: no task is running. */
esp_err_t temporal_task_stop(void);

#ifdef __cplusplus
}
#endif
#endif
