/* a * b + c as the chip does it best: rounded once where it has the instruction, else twice. Never a call of libm, whose
 * fmaf is hundreds of instructions where it has to be emulated. */
#ifndef WDT_FUSED_H
#define WDT_FUSED_H

#if defined(__FP_FAST_FMAF) || (defined(__riscv_flen) && __riscv_flen >= 32) || \
    (defined(__ARM_FEATURE_FMA) && defined(__ARM_FP))
#define WDT_HAS_FMA 1
#else
#define WDT_HAS_FMA 0
#endif

static inline float wdt_fma(float a, float b, float c)
{
#if WDT_HAS_FMA
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

#endif
