/* The vector layer: a dozen operations on WDT_LANES float32 numbers, which is all that the kernels know of a processor.
 *
 * Each file of this folder is compiled once for each instruction set, with the compiler's options for it and with
 * WDT_SET naming it: sse2, avx2, avx512 or neon. WDT_NAME(x) is then x_avx2, so that all can be linked together.
 *
 * An instruction set's header defines
 *   WDT_LANES                numbers in a vec, a power of two up to 16
 *   WDT_ACCUMULATORS         how many vecs a kernel may keep as running sums and still have registers for the rest
 *   vec                      the type
 *   vec_load, vec_store      from and to any address aligned for float
 *   vec_set1                 one number in all lanes
 *   vec_add, vec_sub, vec_mul, vec_div, vec_max
 *   vec_fma                  a * b + c: rounded once where the set can (all but sse2), else twice
 *   vec_scale_by_power       x * 2^n, given n + WDT_ROUNDER; x normal, and the product too
 *   vec_zero_below           x, with 0 in the lanes where y < limit, whatever x is there
 *   vec_keep                 x in the lanes whose bit is set, else y; bits beyond the lanes do not matter
 *   vec_load_int8                   int8 as floats, from any address; exact
 *   vec_load_half, vec_store_half   float16, from and to any address aligned for it; rounded exactly as half.h does,
 *                            to nearest even, subnormals and infinities included
 *   vec_transpose            rows[i] lane j <-> rows[j] lane i
 *   vec_sums                 lane j is the sum over the lanes of rows[j]
 *   vec_sum                  over the lanes, in an order of the set's own
 * Infinities are numbers here. What a NaN gives differs between the sets: the core's callers have refused it.
 */
#ifndef WDT_VECTOR_H
#define WDT_VECTOR_H

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../exponential.h"

#define WDT_PASTE(a, b) a##_##b
#define WDT_EXPAND(a, b) WDT_PASTE(a, b)
#define WDT_NAME(name) WDT_EXPAND(name, WDT_SET)

/* By name and not by what the compiler may use, which -march=native would make the same for all of them. */
#ifndef WDT_SET
#error "compile the core with -DWDT_SCALAR and without core/src/vector, or as core/CMakeLists.txt does"
#endif
#define WDT_TEXT(name) #name
#define WDT_QUOTE(name) WDT_TEXT(name)
#define WDT_HEADER(set) WDT_TEXT(set.h)
#include WDT_HEADER(WDT_SET)

/* For functions whose loops have constant bounds once they are inlined; their arrays then live in registers. */
#define WDT_INLINE static inline __attribute__((always_inline))
#define WDT_UNROLL _Pragma("GCC unroll 32")
#define WDT_UNROLL_BY_4 _Pragma("GCC unroll 4")

#define WDT_ALL_LANES ((1u << WDT_LANES) - 1u)

/* The first n lanes, n < WDT_LANES; the others are 0 and their memory is not touched. */
WDT_INLINE vec vec_load_first(const float *p, ptrdiff_t n)
{
    float lanes[WDT_LANES] = {0};
    memcpy(lanes, p, (size_t)n * sizeof *p);
    return vec_load(lanes);
}

WDT_INLINE void vec_store_first(float *p, vec x, ptrdiff_t n)
{
    float lanes[WDT_LANES];
    vec_store(lanes, x);
    memcpy(p, lanes, (size_t)n * sizeof *p);
}

WDT_INLINE vec vec_load_half_first(const uint16_t *p, ptrdiff_t n)
{
    uint16_t lanes[WDT_LANES] = {0};
    memcpy(lanes, p, (size_t)n * sizeof *p);
    return vec_load_half(lanes);
}

/* Dimensions d .. d + WDT_LANES - 1 of a row [D], or as many as there are. */
WDT_INLINE vec load_row(const float *row, ptrdiff_t d, ptrdiff_t D)
{
    return D - d < WDT_LANES ? vec_load_first(row + d, D - d) : vec_load(row + d);
}

WDT_INLINE void store_row(float *row, ptrdiff_t d, ptrdiff_t D, vec x)
{
    if (D - d < WDT_LANES) {
        vec_store_first(row + d, x, D - d);
    } else {
        vec_store(row + d, x);
    }
}

/* ../exponential.h lane by lane. Largest error over every float of the range: 0.89 ulp at -0x1.765026p+2 where vec_fma
 * rounds once, 1.17 ulp at -0x1.337ad4p+5 where it rounds twice (tests/core/test_vector.c). */
WDT_INLINE vec vec_exp(vec x)
{
    const vec rounder = vec_set1(WDT_ROUNDER);
    const vec rounded = vec_fma(x, vec_set1(WDT_LOG2_E), rounder), n = vec_sub(rounded, rounder);
    vec r = vec_fma(n, vec_set1(WDT_MINUS_LN2_HIGH), x);
    r = vec_fma(n, vec_set1(WDT_MINUS_LN2_LOW), r);
    vec y = vec_set1(WDT_EXP_6);
    y = vec_fma(y, r, vec_set1(WDT_EXP_5));
    y = vec_fma(y, r, vec_set1(WDT_EXP_4));
    y = vec_fma(y, r, vec_set1(WDT_EXP_3));
    y = vec_fma(y, r, vec_set1(WDT_EXP_2));
    y = vec_fma(y, r, vec_set1(1.0f));
    y = vec_fma(y, r, vec_set1(1.0f));
    return vec_zero_below(vec_scale_by_power(y, rounded), x, vec_set1(WDT_EXP_LOWEST));
}

#endif
