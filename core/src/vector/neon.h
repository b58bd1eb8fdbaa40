/* NEON of 64-bit Arm, which all of them have, with fused multiply-add and float16 conversion: 4 lanes, 32 registers. */
#ifndef WDT_NEON_H
#define WDT_NEON_H

#include <arm_neon.h>
#include <string.h>

#define WDT_LANES 4
#define WDT_ACCUMULATORS 24

typedef float32x4_t vec;

static inline vec vec_load(const float *p) { return vld1q_f32(p); }
static inline void vec_store(float *p, vec x) { vst1q_f32(p, x); }
static inline vec vec_set1(float x) { return vdupq_n_f32(x); }
static inline vec vec_add(vec a, vec b) { return vaddq_f32(a, b); }
static inline vec vec_sub(vec a, vec b) { return vsubq_f32(a, b); }
static inline vec vec_mul(vec a, vec b) { return vmulq_f32(a, b); }
static inline vec vec_div(vec a, vec b) { return vdivq_f32(a, b); }
static inline vec vec_max(vec a, vec b) { return vmaxq_f32(a, b); }
static inline vec vec_fma(vec a, vec b, vec c) { return vfmaq_f32(c, a, b); }

static inline vec vec_scale_by_power(vec x, vec rounded_n)
{
    const uint32x4_t exponent = vshlq_n_u32(vreinterpretq_u32_f32(rounded_n), 23);
    return vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(x), exponent));
}

static inline vec vec_zero_below(vec x, vec y, vec limit)
{
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x), vcltq_f32(y, limit)));
}

static inline vec vec_keep(vec x, uint32_t lanes, vec y)
{
    static const uint32_t bit[WDT_LANES] = {1, 2, 4, 8};
    return vbslq_f32(vtstq_u32(vdupq_n_u32(lanes), vld1q_u32(bit)), x, y);
}

static inline vec vec_load_half(const uint16_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }

static inline vec vec_load_int8(const int8_t *p)
{
    uint32_t four;
    memcpy(&four, p, sizeof four);
    const int16x8_t extended = vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(four)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(extended)));
}

static inline void vec_store_half(uint16_t *p, vec x) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x))); }

static inline void vec_transpose(vec rows[WDT_LANES])
{
    const float64x2_t even01 = vreinterpretq_f64_f32(vtrn1q_f32(rows[0], rows[1]));
    const float64x2_t odd01 = vreinterpretq_f64_f32(vtrn2q_f32(rows[0], rows[1]));
    const float64x2_t even23 = vreinterpretq_f64_f32(vtrn1q_f32(rows[2], rows[3]));
    const float64x2_t odd23 = vreinterpretq_f64_f32(vtrn2q_f32(rows[2], rows[3]));
    rows[0] = vreinterpretq_f32_f64(vtrn1q_f64(even01, even23));
    rows[1] = vreinterpretq_f32_f64(vtrn1q_f64(odd01, odd23));
    rows[2] = vreinterpretq_f32_f64(vtrn2q_f64(even01, even23));
    rows[3] = vreinterpretq_f32_f64(vtrn2q_f64(odd01, odd23));
}

static inline vec vec_sums(const vec rows[WDT_LANES])
{
    return vpaddq_f32(vpaddq_f32(rows[0], rows[1]), vpaddq_f32(rows[2], rows[3]));
}

static inline float vec_sum(vec x) { return vaddvq_f32(x); }

#endif
