/* A stub to compile firmware/ without ESP-IDF: what is used of <freertos/FreeRTOS.h>, and nothing behind it. */
#ifndef STUB_FREERTOS_FREERTOS_H
#define STUB_FREERTOS_FREERTOS_H

#include <stddef.h>
#include <stdint.h>

typedef int BaseType_t;
typedef unsigned UBaseType_t;
typedef uint32_t TickType_t;
typedef uint8_t StackType_t; /* in ESP-IDF stacks are counted in bytes */
typedef struct {
    int stub;
} StaticTask_t, StaticQueue_t;

#define pdTRUE ((BaseType_t)1)
#define pdPASS pdTRUE
#define portMAX_DELAY ((TickType_t)0xffffffffu)
#define portNUM_PROCESSORS 2
#define configTICK_RATE_HZ 100
#define pdMS_TO_TICKS(ms) ((TickType_t)((uint64_t)(ms) * configTICK_RATE_HZ / 1000u))

#endif
