/* temporal_task.c on a simulated chip: frames come by the clock, and a frame and a decision take the time that they are
 * told to. What the task does about it is seen exactly, on any machine.
 *
 *     simulate_task BLOB FRAME_EVERY_MS FRAME_TAKES_MS DECISION_TAKES_MS SECONDS
 *
 * On stdout, in milliseconds: "packet T" when a packet is sent, "log T TEXT", at the end "dropped N" frames and "busy N",
 * the longest time that tasks of lower priority had to wait. */
#include "../../firmware/components/ruv_temporal/src/temporal_task.c"

#include <stdarg.h>
#include <string.h>

#include "blob.h"

static uint64_t now_us, end_us, next_frame_us, frame_every_us, frame_takes_us, decision_takes_us;
static uint64_t rested_us, longest_us; /* when the task last let others run; the longest time between two such */

static struct {
    float items[TEMPORAL_TASK_QUEUE_FRAMES][CONFIG_TEMPORAL_INPUT_DIM];
    uint32_t oldest, held;
} ring;

/* Time passes, in which frames come; at the end somebody stops the task. */
static void pass(uint64_t us)
{
    static const float frame[CONFIG_TEMPORAL_INPUT_DIM] = {0.5f};
    for (now_us += us; next_frame_us <= now_us; next_frame_us += frame_every_us) {
        const esp_err_t error = temporal_task_push_frame(frame);
        CHECK(error == ESP_OK || error == ESP_ERR_TIMEOUT || now_us >= end_us);
    }
    if (now_us >= end_us) {
        (void)leave(RUNNING, STOPPING);
    }
}

static void rest(uint64_t us)
{
    longest_us = now_us - rested_us > longest_us ? now_us - rested_us : longest_us;
    pass(us);
    rested_us = now_us;
}

/* ------------------------------------------------------------------------------------------------- a simulated port */

temporal_port_queue *temporal_port_queue_create(uint32_t length, size_t item_bytes)
{
    CHECK(length == TEMPORAL_TASK_QUEUE_FRAMES && item_bytes == sizeof ring.items[0]);
    return (temporal_port_queue *)(void *)&ring;
}

int temporal_port_queue_send(temporal_port_queue *queue, const void *item)
{
    (void)queue;
    if (ring.held == TEMPORAL_TASK_QUEUE_FRAMES) {
        return 0;
    }
    memcpy(ring.items[(ring.oldest + ring.held++) % TEMPORAL_TASK_QUEUE_FRAMES], item, sizeof ring.items[0]);
    return 1;
}

int temporal_port_queue_receive(temporal_port_queue *queue, void *item, uint32_t timeout_ms)
{
    (void)queue;
    const uint64_t until_us = now_us + timeout_ms * 1000u;
    while (ring.held == 0 && now_us < until_us) {
        rest(next_frame_us < until_us ? next_frame_us - now_us : until_us - now_us);
    }
    if (ring.held == 0) {
        return 0;
    }
    memcpy(item, ring.items[ring.oldest], sizeof ring.items[0]);
    ring.oldest = (ring.oldest + 1) % TEMPORAL_TASK_QUEUE_FRAMES;
    ring.held--;
    pass(frame_takes_us);
    return 1;
}

void temporal_port_queue_delete(temporal_port_queue *queue) { (void)queue; }

int temporal_port_task_create(void (*start)(void), const char *name, uint32_t stack_bytes, uint32_t priority, int core)
{
    (void)name, (void)stack_bytes, (void)priority, (void)core;
    start(); /* at once, until it ends */
    return 1;
}

void temporal_port_task_end(void) {}

uint64_t temporal_port_now_us(void) { return now_us; }

void temporal_port_sleep_ms(uint32_t ms)
{
    CHECK(ms > 0);
    rest(ms * 1000u);
}

void temporal_port_log(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("log %lu ", (unsigned long)(now_us / 1000u));
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
}

/* ------------------------------------------------------------------------------------------------------------- main */

static esp_err_t send(const uint8_t *packet, size_t length, void *user)
{
    (void)packet, (void)length, (void)user;
    printf("packet %lu\n", (unsigned long)(now_us / 1000u));
    pass(decision_takes_us);
    return ESP_OK;
}

static uint64_t milliseconds(const char *text) { return (uint64_t)atoi(text) * 1000u; }

int main(int count, char **argument)
{
    static _Alignas(8) uint8_t blob[BLOB_MAX];
    CHECK(count == 6);
    const temporal_task_config_t config = {.weights = blob, .weights_len = read_blob(argument[1], blob), .send = send};
    next_frame_us = frame_every_us = milliseconds(argument[2]);
    frame_takes_us = milliseconds(argument[3]);
    decision_takes_us = milliseconds(argument[4]);
    end_us = milliseconds(argument[5]) * 1000u;
    CHECK(temporal_task_start(&config) == ESP_OK); /* returns when all is over */
    CHECK(atomic_load(&task.phase) == ENDED);
    longest_us = now_us - rested_us > longest_us ? now_us - rested_us : longest_us;
    printf("dropped %lu\nbusy %lu\n", (unsigned long)temporal_task_dropped(), (unsigned long)(longest_us / 1000u));
    finish();
    return 0;
}
