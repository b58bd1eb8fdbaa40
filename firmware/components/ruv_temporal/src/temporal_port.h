/* What temporal_task.c needs of an operating system. Two files have it: temporal_port_freertos.c for the chip, and
 * firmware/host/temporal_port_posix.c for tests on a host. A port to another system is a third. */
#ifndef TEMPORAL_PORT_H
#define TEMPORAL_PORT_H

#include <stddef.h>
#include <stdint.h>

/* A queue of up to `length` items, which are copied in and out in order, between any tasks. NULL: no memory. */
typedef struct temporal_port_queue temporal_port_queue;
temporal_port_queue *temporal_port_queue_create(uint32_t length, size_t item_bytes);
int temporal_port_queue_send(temporal_port_queue *queue, const void *item); /* 1; at once 0 if full */
int temporal_port_queue_receive(temporal_port_queue *queue, void *item, uint32_t timeout_ms); /* 1; 0 if none came */
void temporal_port_queue_delete(temporal_port_queue *queue);

/* Runs run() in a task of its own; on a chip with one core, on that one. 1, or 0 without memory. run() ends by calling
 * temporal_port_task_end(), and touches nothing after it. */
int temporal_port_task_create(void (*run)(void), const char *name, uint32_t stack_bytes, uint32_t priority, int core);
void temporal_port_task_end(void);

uint64_t temporal_port_now_us(void); /* since some start, and never backwards */
void temporal_port_sleep_ms(uint32_t ms); /* at least; other tasks run meanwhile */

#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
void temporal_port_log(const char *format, ...); /* one line, without its end */

#endif
