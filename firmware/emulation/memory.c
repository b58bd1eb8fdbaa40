/* Heap and stack: memory.h. */
#include "memory.h"

#include <stdint.h>

#include "host.h"
#include "print.h"

extern uint8_t heap_begin[], heap_end[], stack_limit[];

#define PAINT 0xA5u
#define UNIT 16u /* every block begins at a multiple of it, behind one of these that holds its size */

static size_t taken, held, calls;

void *malloc(size_t bytes)
{
    const size_t room = (size_t)(heap_end - heap_begin) - taken;
    calls++;
    if (room < 2 * UNIT || bytes > room - 2 * UNIT) {
        return NULL;
    }
    uint8_t *const block = heap_begin + taken;
    *(size_t *)(void *)block = bytes;
    taken += UNIT + (bytes + UNIT - 1) / UNIT * UNIT;
    held += bytes;
    return block + UNIT;
}

/* The newest block's room comes back, others' only with heap_clear(). */
void free(void *pointer)
{
    if (pointer) {
        const size_t bytes = *(size_t *)(void *)((uint8_t *)pointer - UNIT);
        const size_t whole = UNIT + (bytes + UNIT - 1) / UNIT * UNIT;
        held -= bytes;
        if ((uint8_t *)pointer - UNIT + whole == heap_begin + taken) {
            taken -= whole;
        }
    }
}

size_t heap_used(void) { return held; }

size_t heap_calls(void) { return calls; }

void heap_clear(void) { taken = held = 0; }

void *heap_take(size_t bytes)
{
    void *const memory = malloc(bytes);
    if (!memory) {
        fail("the image's heap is full", (int)bytes);
    }
    return memory;
}

static uint8_t *painted_top; /* the highest painted byte's successor */

__attribute__((noinline)) void stack_paint(void)
{
    volatile uint8_t *const top = (uint8_t *)__builtin_frame_address(0) - 64; /* this function's own frame is kept */
    for (volatile uint8_t *at = stack_limit; at < top; at++) {
        *at = PAINT;
    }
    painted_top = (uint8_t *)__builtin_frame_address(0);
}

size_t stack_used(void)
{
    const uint8_t *at = stack_limit;
    while (at < painted_top && *at == PAINT) {
        at++;
    }
    return (size_t)(painted_top - at);
}
