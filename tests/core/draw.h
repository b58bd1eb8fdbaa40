/* Whole numbers drawn at random (xorshift64), the same in every run. */
#ifndef WDT_DRAW_H
#define WDT_DRAW_H

#include <stdint.h>

static uint64_t state = 88172645463325252u;

static uint32_t draw(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32) % below;
}

#endif
