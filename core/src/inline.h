/* What kernels ask of the compiler: functions whose loops have constant bounds once they are inlined, so that their arrays
 * live in registers; and the opposite, for code that is long and there once. */
#ifndef WDT_INLINE_H
#define WDT_INLINE_H

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#define NOT_INLINED __attribute__((noinline))
#define UNROLL _Pragma("GCC unroll 16")
#define KEEP(pointer) __asm__("" : "+r"(pointer)) /* one address in a register, and not one for each load from it */
#else
#define INLINE static inline
#define NOT_INLINED
#define UNROLL
#define KEEP(pointer) (void)0
#endif

#endif
