/* IEEE 754 binary16, by bits: no compiler extension, so it is the same on every target.
 * Rounds to nearest, ties to even, subnormals included. Not for NaN payloads: NaN stays NaN. */
#ifndef WDT_HALF_H
#define WDT_HALF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The largest magnitude that still rounds to a finite half (65504). */
#define WDT_HALF_LIMIT 65520.0f

/* Bytes of one number in either dtype. */
static inline size_t wdt_number_bytes(int half)
{
    return half ? sizeof(uint16_t) : sizeof(float);
}

static inline uint32_t wdt_float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float wdt_bits_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float wdt_half_to_float(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, rest = half & 0x7FFFu;
    if (rest >= 0x7C00u) { /* infinity, NaN */
        return wdt_bits_float(sign | 0x7F800000u | (rest & 0x3FFu) << 13);
    }
    if (rest >= 0x0400u) { /* normal: the exponent's bias goes from 15 to 127 */
        return wdt_bits_float(sign | ((rest << 13) + ((127u - 15u) << 23)));
    }
    const float magnitude = (float)rest * 0x1p-24f; /* subnormal or zero, exact */
    return sign ? -magnitude : magnitude;
}

/* Number `at` of an array in either dtype. */
static inline float wdt_number_at(const void *numbers, int half, ptrdiff_t at)
{
    return half ? wdt_half_to_float(((const uint16_t *)numbers)[at]) : ((const float *)numbers)[at];
}

static inline uint16_t wdt_float_to_half(float x)
{
    const uint32_t bits = wdt_float_bits(x), sign = bits >> 16 & 0x8000u, rest = bits & 0x7FFFFFFFu;
    if (rest > 0x7F800000u) {
        return (uint16_t)(sign | 0x7E00u);
    }
    if (rest >= wdt_float_bits(WDT_HALF_LIMIT)) {
        return (uint16_t)(sign | 0x7C00u);
    }
    if (rest < wdt_float_bits(0x1p-14f)) {
        /* Subnormal: adding 0.5 puts the half's last bit at the float's last bit, and the addition rounds. */
        return (uint16_t)(sign | (wdt_float_bits(wdt_bits_float(rest) + 0.5f) - wdt_float_bits(0.5f)));
    }
    /* Normal: drop 13 bits, adding just under half of the last kept one, and one more if that one is odd. */
    return (uint16_t)(sign | (rest - ((127u - 15u) << 23) + 0xFFFu + (rest >> 13 & 1u)) >> 13);
}

#endif
