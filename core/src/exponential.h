/* exp() of one float, for scores: no table, no libm. The vector kernels (vector/vector.h) have the same polynomial.
 *
 * x = n ln 2 + r with |r| <= ln 2 / 2, ln 2 in two parts of which the first has so few bits that n times it is exact
 * (Cody and Waite), and e^r by 1 + r + a polynomial, of the least degree that stays below 1.5 ulp, fitted for the least
 * largest relative error and refitted after each coefficient was rounded. */
#ifndef WDT_EXPONENTIAL_H
#define WDT_EXPONENTIAL_H

#include "fused.h"
#include "half.h"

/* Adding this to |n| < 2^22 rounds n to an integer, which then stands in the sum's last bits. */
#define WDT_ROUNDER 0x1.8p23f

#define WDT_EXP_LOWEST -87.33654f /* below it the result would be subnormal, and 0 is returned */
#define WDT_EXP_HIGHEST 88.3f

#define WDT_LOG2_E 0x1.715476p+0f
#define WDT_MINUS_LN2_HIGH -0x1.62e400p-1f
#define WDT_MINUS_LN2_LOW -0x1.7f7d1cp-20f

/* Of r^2 to r^6; those of 1 and r are 1. */
#define WDT_EXP_2 0x1.fffffcp-2f
#define WDT_EXP_3 0x1.555494p-3f
#define WDT_EXP_4 0x1.5558bep-5f
#define WDT_EXP_5 0x1.123856p-7f
#define WDT_EXP_6 0x1.6a3d0ep-10f

/* exp(x) for x <= WDT_EXP_HIGHEST and for -infinity; unspecified for NaN. Largest error over every float of the range:
 * 0.89 ulp at -0x1.765026p+2 where wdt_fma rounds once, 1.17 ulp at -0x1.337ad4p+5 where it rounds twice. */
static inline float wdt_exp(float x)
{
    if (x < WDT_EXP_LOWEST) {
        return 0.0f;
    }
    const float rounded = wdt_fma(x, WDT_LOG2_E, WDT_ROUNDER), n = rounded - WDT_ROUNDER;
    const float r = wdt_fma(n, WDT_MINUS_LN2_LOW, wdt_fma(n, WDT_MINUS_LN2_HIGH, x));
    float y = wdt_fma(WDT_EXP_6, r, WDT_EXP_5);
    y = wdt_fma(y, r, WDT_EXP_4);
    y = wdt_fma(y, r, WDT_EXP_3);
    y = wdt_fma(y, r, WDT_EXP_2);
    y = wdt_fma(y, r, 1.0f);
    y = wdt_fma(y, r, 1.0f);
    return wdt_bits_float(wdt_float_bits(y) + (wdt_float_bits(rounded) << 23)); /* y 2^n, by its exponent's bits */
}

#endif
