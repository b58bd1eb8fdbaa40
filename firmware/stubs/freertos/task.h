/* A stub to compile firmware/ without ESP-IDF: what is used of <freertos/task.h>, and nothing behind it. */
#ifndef STUB_FREERTOS_TASK_H
#define STUB_FREERTOS_TASK_H

#include "freertos/FreeRTOS.h"

typedef struct tskTaskControlBlock *TaskHandle_t;
typedef void (*TaskFunction_t)(void *);

BaseType_t xTaskCreatePinnedToCore(TaskFunction_t run, const char *name, uint32_t stack_bytes, void *argument,
                                   UBaseType_t priority, TaskHandle_t *handle, BaseType_t core);
TaskHandle_t xTaskCreateStatic(TaskFunction_t run, const char *name, uint32_t stack_bytes, void *argument,
                               UBaseType_t priority, StackType_t *stack, StaticTask_t *task);
void vTaskDelete(TaskHandle_t task);
void vTaskDelay(TickType_t ticks);

#endif
