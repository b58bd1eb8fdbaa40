/* Block fixed point: rows of floats as integers with one exponent a row, made and unmade by bits. For chips where a
 * float operation is a call of a hundred instructions and an integer product is one.
 *
 * A row's exponent E is the biased exponent of its largest number, at least WDT_BLOCK_LOWEST. A number of the row is
 *
 *   mantissa * 2^(E - WDT_BLOCK_BIAS)     |mantissa| < 2^30, cut towards zero
 *
 * so the error is below 2^-29 of the row's largest number, which in float16 counts as at least 2^-14, and zero for the
 * numbers that are within 2^-6 of it. Numbers below 2^-126 are zeros, as on chips that flush them. No infinity, no NaN:
 * neither is ever in an input or a model. */
#ifndef WDT_BLOCK_H
#define WDT_BLOCK_H

#include "half.h"

#define WDT_BLOCK_BIAS 156   /* 127 of a float's exponent, 29 bits behind the point */
#define WDT_BLOCK_LOWEST 31  /* so that a float's zero exponent is always shifted out */
#define WDT_HALF_TO_FLOAT_EXPONENT 112 /* 127 - 15 */

/* The upper half of the product, rounded down. By name on RISC-V, where GCC 12 makes five instructions of it when a
 * factor is used more than once. */
static inline int32_t wdt_multiply_high(int32_t a, int32_t b)
{
#if defined(__riscv_mul) && __riscv_xlen == 32
    int32_t high;
    __asm__("mulh %0, %1, %2" : "=r"(high) : "r"(a), "r"(b));
    return high;
#else
    return (int32_t)((int64_t)a * b >> 32);
#endif
}

#if defined(__GNUC__)
#define WDT_BLOCK_UNROLL _Pragma("GCC unroll 8")
#else
#define WDT_BLOCK_UNROLL
#endif

/* E of a row of n numbers. */
static inline int32_t wdt_block_exponent(const void *row, int half, ptrdiff_t n)
{
    uint32_t most = 0; /* of the numbers' bits without the sign: they are in the numbers' order */
    if (half) {
        WDT_BLOCK_UNROLL
        for (ptrdiff_t d = 0; d < n; d++) {
            const uint32_t bits = ((const uint16_t *)row)[d] & 0x7FFFu;
            most = bits > most ? bits : most;
        }
        if (most == 0) {
            return WDT_BLOCK_LOWEST;
        }
        return (most < 0x0400u ? 1 : (int32_t)(most >> 10)) + WDT_HALF_TO_FLOAT_EXPONENT;
    }
    WDT_BLOCK_UNROLL
    for (ptrdiff_t d = 0; d < n; d++) {
        const uint32_t bits = wdt_float_bits(((const float *)row)[d]) << 1;
        most = bits > most ? bits : most;
    }
    const int32_t exponent = (int32_t)(most >> 24);
    return exponent < WDT_BLOCK_LOWEST ? WDT_BLOCK_LOWEST : exponent;
}

/* Mantissa of number `at` of a row of exponent E. */
static inline int32_t wdt_block_mantissa(const void *row, int half, ptrdiff_t at, int32_t E)
{
    uint32_t magnitude; /* of [1, 2), from bit 31 on */
    int32_t exponent, sign;
    if (half) {
        const int32_t bits = ((const int16_t *)row)[at];
        exponent = bits >> 10 & 0x1F;
        magnitude = (uint32_t)bits << 21 & 0x7FFFFFFFu;
        if (exponent) {
            magnitude |= 0x80000000u;
        } else { /* subnormal or zero */
            exponent = 1;
        }
        exponent += WDT_HALF_TO_FLOAT_EXPONENT;
        sign = bits >> 15;
    } else {
        const uint32_t bits = wdt_float_bits(((const float *)row)[at]);
        exponent = (int32_t)(bits << 1 >> 24);
        magnitude = bits << 8 | 0x80000000u;
        sign = -(int32_t)(bits >> 31);
    }
    const uint32_t shift = (uint32_t)(E + 2 - exponent);
    const int32_t mantissa = shift < 32 ? (int32_t)(magnitude >> shift) : 0;
    return (mantissa ^ sign) - sign;
}

/* m * 2^exponent, rounded to nearest; 0 where it would be subnormal, infinite where it is too large. */
static inline float wdt_block_float(int32_t m, int32_t exponent)
{
    const uint32_t bits = wdt_float_bits((float)m);
    const int32_t sum = (int32_t)(bits << 1 >> 24) + exponent;
    if (m == 0 || sum <= 0) {
        return 0.0f;
    }
    return wdt_bits_float(sum < 255 ? bits + ((uint32_t)exponent << 23) : (bits & 0x80000000u) | 0x7F800000u);
}

/* 2^(-distance / 2^24) as m * 2^-*drop with m in [2^29, 2^30], relative error below 2^-28 (tests/core/test_kernels.c);
 * m = 0 and *drop = 0 from a distance of 2^-64 on.
 *
 * -distance = y - drop with y in [0, 1), and 2^y by a polynomial of degree 6, fitted for the least largest relative
 * error with 1 at 0; all its coefficients are positive, so it needs no sign. */
static inline int32_t wdt_power_of_two(uint32_t distance, int32_t *drop)
{
    if (distance >= 64u << 24) {
        *drop = 0;
        return 0;
    }
    const uint32_t y = (0u - distance) << 8; /* 2^32 is 1 */
    static const uint32_t coefficients[] = {0x28DACAu, 0x13D0B92u, 0x71A2445u, 0x1EBFD579u, 0x58B90AD8u, 0x80000000u};
    uint32_t p = 0x71506u;
    for (int k = 0; k < 6; k++) {
        p = coefficients[k] + (uint32_t)((uint64_t)p * y >> 32);
    }
    *drop = (int32_t)((distance + 0xFFFFFFu) >> 24);
    return (int32_t)((p + 2) >> 2);
}

/* Brings n factors m * 2^e, the m `stride` apart, to one exponent, which is returned.
 * The sum of their |m| is at most 2^32, so that multiplied by mantissas below 2^30 and >> 32, it is within +-2^30.
 * |m| <= 2^30, n <= 64.
 * The error of a factor is below one in the last place, that is at most 2^-31 of the sum or 2^-29 of the largest. */
static inline int32_t wdt_block_align(int32_t *m, const int16_t *e, int n, int stride)
{
    int32_t most = INT16_MIN; /* where every factor is 0 */
    uint32_t sum = 0;
    int32_t more = 0;
    for (int c = 0, at = 0; c < n; c++, at += stride) {
        most = m[at] && e[c] > most ? e[c] : most;
    }
    for (int c = 0, at = 0; c < n; c++, at += stride) {
        const uint32_t shift = (uint32_t)(most - e[c]) + 6;
        sum += 1 + (m[at] && shift < 32 ? (uint32_t)(m[at] < 0 ? -m[at] : m[at]) >> shift : 0);
    }
    while (sum >> more > 1u << 26) {
        more++;
    }
    for (int c = 0, at = 0; c < n; c++, at += stride) {
        const uint32_t shift = (uint32_t)(most - e[c] + more);
        m[at] = m[at] && shift < 32 ? m[at] >> shift : 0;
    }
    return most + more;
}

#endif
