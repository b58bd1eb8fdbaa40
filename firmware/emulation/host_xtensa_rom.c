/* What an ESP8266 has in its mask ROM, and Debian's libgcc for it therefore leaves out: division, wide multiplication and
 * float32 arithmetic (IEEE 754, to nearest even, subnormals too). Floats are passed as their bits, as the soft-float ABI
 * does. Its speed is not the ROM's, so that instructions are not counted on this target. */
#include <stdint.h>

#include "host.h"

#define SIGN 0x80000000u
#define INFINITE 0x7F800000u
#define NAN_BITS 0x7FC00000u

/* -------------------------------------------------------------------------------------------------------- integers */

static uint64_t divide(uint64_t a, uint64_t b, uint64_t *rest)
{
    uint64_t quotient = 0, left = 0;
    for (int bit = 63; bit >= 0; bit--) {
        left = left << 1 | (a >> bit & 1);
        if (left >= b) {
            left -= b;
            quotient |= 1ull << bit;
        }
    }
    *rest = left;
    return quotient;
}

static uint32_t divide_short(uint32_t a, uint32_t b, uint32_t *rest)
{
    uint32_t quotient = 0;
    uint64_t left = 0;
    for (int bit = 31; bit >= 0; bit--) {
        left = left << 1 | (a >> bit & 1u);
        if (left >= b) {
            left -= b;
            quotient |= 1u << bit;
        }
    }
    *rest = (uint32_t)left;
    return quotient;
}

uint64_t __udivdi3(uint64_t a, uint64_t b)
{
    uint64_t rest;
    return divide(a, b, &rest);
}

uint64_t __umoddi3(uint64_t a, uint64_t b)
{
    uint64_t rest;
    divide(a, b, &rest);
    return rest;
}

uint32_t __udivsi3(uint32_t a, uint32_t b)
{
    uint32_t rest;
    return divide_short(a, b, &rest);
}

uint32_t __umodsi3(uint32_t a, uint32_t b)
{
    uint32_t rest;
    divide_short(a, b, &rest);
    return rest;
}

int32_t __divsi3(int32_t a, int32_t b)
{
    const uint32_t size = __udivsi3(a < 0 ? 0 - (uint32_t)a : (uint32_t)a, b < 0 ? 0 - (uint32_t)b : (uint32_t)b);
    return (int32_t)((a < 0) != (b < 0) ? 0 - size : size);
}

/* 64 bits of a b, by halves of 16. */
static void multiply(uint32_t a, uint32_t b, uint32_t *high, uint32_t *low)
{
    const uint32_t a0 = a & 0xFFFFu, a1 = a >> 16, b0 = b & 0xFFFFu, b1 = b >> 16;
    const uint32_t middle = a1 * b0 + (a0 * b0 >> 16); /* below 2^32 */
    const uint32_t other = a0 * b1 + (middle & 0xFFFFu);
    *high = a1 * b1 + (middle >> 16) + (other >> 16);
    *low = other << 16 | (a0 * b0 & 0xFFFFu);
}

uint64_t __muldi3(uint64_t a, uint64_t b)
{
    uint32_t high, low;
    multiply((uint32_t)a, (uint32_t)b, &high, &low);
    high += (uint32_t)(a >> 32) * (uint32_t)b + (uint32_t)a * (uint32_t)(b >> 32);
    return (uint64_t)high << 32 | low;
}

/* ---------------------------------------------------------------------------------------------------------- floats
 * A number that is neither zero, infinite nor NaN is (-1)^sign m 2^(e - 127 - 30), with bit 30 of m the highest: seven bits
 * more than a float32 has, the last of them a 1 if anything below is not zero. */
typedef struct parts {
    uint32_t m;
    int e;
} parts;

static parts take_apart(uint32_t x)
{
    const uint32_t fraction = x & 0x7FFFFFu;
    const int e = (int)(x >> 23 & 0xFFu);
    if (e > 0) {
        return (parts){(fraction | 0x800000u) << 7, e};
    }
    const int shift = __builtin_clz(fraction) - 8;
    return (parts){fraction << shift << 7, 1 - shift};
}

static uint32_t shift_right(uint32_t m, int by)
{
    return by > 31 ? m != 0 : by == 0 ? m : m >> by | (m << (32 - by) != 0);
}

/* Rounded to nearest even; m = 0 is zero. */
static uint32_t put_together(uint32_t sign, parts x)
{
    if (x.m == 0) {
        return sign;
    }
    const int shift = __builtin_clz(x.m) - 1;
    x = shift < 0 ? (parts){shift_right(x.m, 1), x.e + 1} : (parts){x.m << shift, x.e - shift};
    if (x.e >= 255) {
        return sign | INFINITE;
    }
    if (x.e < 1) { /* subnormal: the exponent's field is that of 1, less the leading bit that it has not */
        x = (parts){shift_right(x.m, 1 - x.e), 1};
    }
    const uint32_t rounded = (x.m + 0x3Fu + (x.m >> 7 & 1u)) >> 7;
    return sign | (((uint32_t)(x.e - 1) << 23) + rounded);
}

static int is_nan(uint32_t x) { return (x & ~SIGN) > INFINITE; }

static int is_infinite(uint32_t x) { return (x & ~SIGN) == INFINITE; }

static int is_zero(uint32_t x) { return (x & ~SIGN) == 0; }

uint32_t __addsf3(uint32_t a, uint32_t b)
{
    if ((a & ~SIGN) < (b & ~SIGN)) { /* a is the larger one */
        const uint32_t smaller = a;
        a = b;
        b = smaller;
    }
    const uint32_t sign = a & SIGN;
    if (is_nan(a) || (is_infinite(a) && is_infinite(b) && a != b)) {
        return NAN_BITS;
    }
    if (is_infinite(a) || (is_zero(b) && !is_zero(a))) {
        return a;
    }
    if (is_zero(a)) {
        return a & b; /* -0 of two negative zeros alone */
    }
    const parts x = take_apart(a), y = take_apart(b);
    const uint32_t m = shift_right(y.m, x.e - y.e);
    if ((a ^ b) & SIGN) {
        return x.m == m ? 0 : put_together(sign, (parts){x.m - m, x.e});
    }
    return put_together(sign, (parts){x.m + m, x.e});
}

uint32_t __subsf3(uint32_t a, uint32_t b) { return __addsf3(a, b ^ SIGN); }

uint32_t __mulsf3(uint32_t a, uint32_t b)
{
    const uint32_t sign = (a ^ b) & SIGN;
    if (is_nan(a) || is_nan(b) || (is_infinite(a) && is_zero(b)) || (is_zero(a) && is_infinite(b))) {
        return NAN_BITS;
    }
    if (is_infinite(a) || is_infinite(b)) {
        return sign | INFINITE;
    }
    if (is_zero(a) || is_zero(b)) {
        return sign;
    }
    const parts x = take_apart(a), y = take_apart(b);
    uint32_t high, low;
    multiply(x.m << 1, y.m << 1, &high, &low); /* bit 30 or 31 of high is the highest */
    return put_together(sign, (parts){high | (low != 0), x.e + y.e - 127});
}

uint32_t __floatunsisf(uint32_t n)
{
    return put_together(0, (parts){n, 127 + 30});
}

uint32_t __floatsisf(int32_t n)
{
    return n < 0 ? __floatunsisf(0 - (uint32_t)n) | SIGN : __floatunsisf((uint32_t)n);
}

/* Of float64, which the core does not compute with, there is none: who calls it is told so. */
uint64_t __muldf3(uint64_t a, uint64_t b)
{
    image_trapped((uint32_t)a, (uint32_t)b);
}

uint32_t __truncdfsf2(uint64_t a)
{
    image_trapped((uint32_t)a, 0);
}
