/* temporal_port.h on FreeRTOS as ESP-IDF has it: stacks are counted in bytes, and a task is pinned to a core. */
#include "temporal_port.h"

#include <stdarg.h>
#include <stdio.h>

#include "esp_log.h"
#include "esp_timer.h"
#include "freertos/FreeRTOS.h"
#include "freertos/queue.h"
#include "freertos/task.h"

#define LINE_BYTES 160

/* At least one tick: with the usual 100 ticks a second, a few milliseconds are rounded down to none. */
static TickType_t ticks(uint32_t ms)
{
    const TickType_t n = pdMS_TO_TICKS(ms);
    return n > 0 ? n : 1;
}

temporal_port_queue *temporal_port_queue_create(uint32_t length, size_t item_bytes)
{
    return (temporal_port_queue *)xQueueCreate((UBaseType_t)length, (UBaseType_t)item_bytes);
}

int temporal_port_queue_send(temporal_port_queue *queue, const void *item)
{
    return xQueueSend((QueueHandle_t)queue, item, 0) == pdTRUE;
}

int temporal_port_queue_receive(temporal_port_queue *queue, void *item, uint32_t timeout_ms)
{
    return xQueueReceive((QueueHandle_t)queue, item, timeout_ms > 0 ? ticks(timeout_ms) : 0) == pdTRUE;
}

void temporal_port_queue_delete(temporal_port_queue *queue)
{
    vQueueDelete((QueueHandle_t)queue);
}

/* FreeRTOS hands a task an argument, which here is the function that it runs. */
static void enter(void *argument)
{
    void (*const *const run)(void) = argument;
    (*run)();
}

int temporal_port_task_create(void (*run)(void), const char *name, uint32_t stack_bytes, uint32_t priority, int core)
{
    static void (*entry)(void); /* outlives this call; temporal_task.c has one task at a time */
    entry = run;
    return xTaskCreatePinnedToCore(enter, name, stack_bytes, &entry, (UBaseType_t)priority, NULL,
                                   core < portNUM_PROCESSORS ? (BaseType_t)core : 0) == pdPASS;
}

void temporal_port_task_end(void)
{
    vTaskDelete(NULL);
}

uint64_t temporal_port_now_us(void)
{
    return (uint64_t)esp_timer_get_time();
}

void temporal_port_sleep_ms(uint32_t ms)
{
    vTaskDelay(ticks(ms));
}

void temporal_port_log(const char *format, ...)
{
    char line[LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    ESP_LOGW("temporal", "%s", line);
}
