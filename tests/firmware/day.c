/* temporal_task.c in fast motion: its port is simulated here, so that a day of frames at 100 Hz takes minutes.
 *
 *     day BLOB FRAMES COUNT FIRST_SEQ FIRST_US > decisions
 *
 * FRAMES is a file of frames [n, CONFIG_TEMPORAL_INPUT_DIM], float32, which are given over and over, COUNT in all. The
 * clock begins at FIRST_US, and the packets' numbers at FIRST_SEQ. On stdout, for each packet: the frames that the head had
 * taken (u64) and the 40 bytes. On stderr: calls of malloc until the head had started, and at the end. */
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The task as it is, and within reach: where a counter wraps should not take years to be seen. */
#include "temporal_task.c"

enum { FRAME_US = 10000, MOST = 1 << 16 };

static float frames[MOST][CONFIG_TEMPORAL_INPUT_DIM];
static size_t n_frames;
static uint64_t count, given, now_us, next_us, first_seq;
static atomic_int over;

static atomic_ulong mallocs;
void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes)
{
    mallocs++;
    return __real_malloc(bytes);
}

/* ------------------------------------------------------------------------------------------------- a simulated port */

temporal_port_queue *temporal_port_queue_create(uint32_t length, size_t item_bytes)
{
    (void)length, (void)item_bytes;
    static char any;
    return (temporal_port_queue *)&any;
}

int temporal_port_queue_send(temporal_port_queue *queue, const void *item)
{
    (void)queue, (void)item;
    return 1;
}

/* The next frame, if it comes within the time, which passes. */
int temporal_port_queue_receive(temporal_port_queue *queue, void *item, uint32_t timeout_ms)
{
    (void)queue;
    if (given == count) {
        over = 1;
        usleep(100);
        return 0;
    }
    if (next_us - now_us > (uint64_t)timeout_ms * 1000u) {
        now_us += (uint64_t)timeout_ms * 1000u;
        return 0;
    }
    task.seq = given == 0 ? (uint32_t)first_seq : task.seq;
    now_us = next_us;
    next_us += FRAME_US;
    memcpy(item, frames[given++ % n_frames], sizeof frames[0]);
    return 1;
}

void temporal_port_queue_delete(temporal_port_queue *queue)
{
    (void)queue;
}

static void *enter(void *run)
{
    (*(void (**)(void))run)();
    return NULL;
}

int temporal_port_task_create(void (*start)(void), const char *name, uint32_t stack_bytes, uint32_t priority, int core)
{
    static void (*kept)(void);
    pthread_t thread;
    (void)name, (void)stack_bytes, (void)priority, (void)core;
    kept = start;
    return pthread_create(&thread, NULL, enter, &kept) == 0 && pthread_detach(thread) == 0;
}

void temporal_port_task_end(void)
{
}

uint64_t temporal_port_now_us(void)
{
    return now_us;
}

void temporal_port_sleep_ms(uint32_t ms)
{
    usleep(1000u * (ms > 0));
}

void temporal_port_log(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

/* ------------------------------------------------------------------------------------------------------------- main */

static esp_err_t print(const uint8_t *packet, size_t length, void *user)
{
    (void)user;
    return fwrite(&given, sizeof given, 1, stdout) == 1 && fwrite(packet, length, 1, stdout) == 1 ? ESP_OK : ESP_FAIL;
}

static size_t read_file(const char *path, void *into, size_t most)
{
    FILE *const file = fopen(path, "rb");
    const size_t length = file ? fread(into, 1, most, file) : 0;
    if (file) {
        fclose(file);
    }
    return length;
}

int main(int arguments, char **argument)
{
    static _Alignas(8) uint8_t blob[1 << 18];
    static char buffer[1 << 16];
    if (arguments != 6) {
        return 2;
    }
    const size_t length = read_file(argument[1], blob, sizeof blob);
    n_frames = read_file(argument[2], frames, sizeof frames) / sizeof frames[0];
    count = strtoull(argument[3], NULL, 10);
    first_seq = strtoull(argument[4], NULL, 10);
    now_us = strtoull(argument[5], NULL, 10);
    next_us = now_us + FRAME_US;
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    const temporal_task_config_t config = {.weights = blob, .weights_len = length, .node_id = 5, .send = print};
    if (n_frames == 0 || temporal_task_start(&config) != ESP_OK) {
        return 1;
    }
    fprintf(stderr, "%lu\n", (unsigned long)mallocs);
    while (!over) {
        usleep(1000);
    }
    fprintf(stderr, "%lu\n", (unsigned long)mallocs);
    return temporal_task_stop() == ESP_OK ? 0 : 1;
}
