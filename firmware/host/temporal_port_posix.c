/* components/ruv_temporal/src/temporal_port.h on POSIX threads, for tests on a host: a bounded queue of copies as
 * FreeRTOS has it, a monotonic clock, log lines on stderr. Stack size, priority and core are the host's own. */
#include "temporal_port.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct temporal_port_queue {
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t filled;
    uint32_t length, held, oldest; /* of a ring */
    size_t item_bytes;
    unsigned char items[]; /* [length, item_bytes] */
};

temporal_port_queue *temporal_port_queue_create(uint32_t length, size_t item_bytes)
{
    temporal_port_queue *const queue = malloc(sizeof *queue + length * item_bytes);
    if (queue == NULL) {
        return NULL;
    }
    pthread_condattr_t monotonic;
    queue->length = length;
    queue->held = queue->oldest = 0;
    queue->item_bytes = item_bytes;
    pthread_mutex_init(&queue->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&queue->filled, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return queue;
}

int temporal_port_queue_send(temporal_port_queue *queue, const void *item)
{
    pthread_mutex_lock(&queue->lock);
    const int fits = queue->held < queue->length;
    if (fits) {
        const uint32_t slot = (queue->oldest + queue->held) % queue->length;
        memcpy(queue->items + slot * queue->item_bytes, item, queue->item_bytes);
        queue->held++;
        pthread_cond_signal(&queue->filled);
    }
    pthread_mutex_unlock(&queue->lock);
    return fits;
}

static struct timespec after_ms(uint32_t ms)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    const long nanoseconds = at.tv_nsec + (long)(ms % 1000u) * 1000000L;
    at.tv_sec += (time_t)(ms / 1000u) + nanoseconds / 1000000000L;
    at.tv_nsec = nanoseconds % 1000000000L;
    return at;
}

int temporal_port_queue_receive(temporal_port_queue *queue, void *item, uint32_t timeout_ms)
{
    const struct timespec until = after_ms(timeout_ms);
    int timed_out = 0;
    pthread_mutex_lock(&queue->lock);
    while (queue->held == 0 && !timed_out) {
        timed_out = timeout_ms == 0 || pthread_cond_timedwait(&queue->filled, &queue->lock, &until) != 0;
    }
    const int came = queue->held > 0;
    if (came) {
        memcpy(item, queue->items + queue->oldest * queue->item_bytes, queue->item_bytes);
        queue->oldest = (queue->oldest + 1) % queue->length;
        queue->held--;
    }
    pthread_mutex_unlock(&queue->lock);
    return came;
}

void temporal_port_queue_delete(temporal_port_queue *queue)
{
    pthread_cond_destroy(&queue->filled);
    pthread_mutex_destroy(&queue->lock);
    free(queue);
}

static void (*entry)(void); /* temporal_task.c has one task at a time */

static void *enter(void *unused)
{
    (void)unused;
    entry();
    return NULL;
}

int temporal_port_task_create(void (*run)(void), const char *name, uint32_t stack_bytes, uint32_t priority, int core)
{
    pthread_t thread;
    (void)name, (void)stack_bytes, (void)priority, (void)core;
    entry = run;
    return pthread_create(&thread, NULL, enter, NULL) == 0 && pthread_detach(thread) == 0;
}

void temporal_port_task_end(void)
{
}

uint64_t temporal_port_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

void temporal_port_sleep_ms(uint32_t ms)
{
    const struct timespec time = {.tv_sec = (time_t)(ms / 1000u), .tv_nsec = (long)(ms % 1000u) * 1000000L};
    nanosleep(&time, NULL);
}

void temporal_port_log(const char *format, ...)
{
    char line[160];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    fprintf(stderr, "temporal: %s\n", line); /* in one piece */
}
