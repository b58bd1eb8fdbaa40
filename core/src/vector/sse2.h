/* SSE2, which every x86-64 processor has: 4 lanes, 16 registers. No fused multiply-add, no rounding and no float16
 * instruction: a product and a sum round separately, and float16 goes by bits, as in half.h. */
#ifndef WDT_SSE2_H
#define WDT_SSE2_H

#include <emmintrin.h>
#include <string.h>

#define WDT_LANES 4
#define WDT_ACCUMULATORS 12

typedef __m128 vec;

static inline vec vec_load(const float *p) { return _mm_loadu_ps(p); }
static inline void vec_store(float *p, vec x) { _mm_storeu_ps(p, x); }
static inline vec vec_set1(float x) { return _mm_set1_ps(x); }
static inline vec vec_add(vec a, vec b) { return _mm_add_ps(a, b); }
static inline vec vec_sub(vec a, vec b) { return _mm_sub_ps(a, b); }
static inline vec vec_mul(vec a, vec b) { return _mm_mul_ps(a, b); }
static inline vec vec_div(vec a, vec b) { return _mm_div_ps(a, b); }
static inline vec vec_max(vec a, vec b) { return _mm_max_ps(a, b); }
static inline vec vec_fma(vec a, vec b, vec c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }

static inline vec vec_scale_by_power(vec x, vec rounded_n)
{
    const __m128i exponent = _mm_slli_epi32(_mm_castps_si128(rounded_n), 23);
    return _mm_castsi128_ps(_mm_add_epi32(_mm_castps_si128(x), exponent));
}

static inline vec vec_zero_below(vec x, vec y, vec limit)
{
    return _mm_and_ps(x, _mm_cmpnlt_ps(y, limit));
}

/* The bits of x where those of `which` are set, else those of y. */
static inline __m128i vec_choose(__m128i which, __m128i x, __m128i y)
{
    return _mm_or_si128(_mm_and_si128(which, x), _mm_andnot_si128(which, y));
}

static inline vec vec_keep(vec x, uint32_t lanes, vec y)
{
    const __m128i bit = _mm_setr_epi32(1, 2, 4, 8);
    const __m128i kept = _mm_cmpeq_epi32(_mm_and_si128(_mm_set1_epi32((int32_t)lanes), bit), bit);
    return _mm_castsi128_ps(vec_choose(kept, _mm_castps_si128(x), _mm_castps_si128(y)));
}

static inline vec vec_load_half(const uint16_t *p)
{
    const __m128i half = _mm_unpacklo_epi16(_mm_loadl_epi64((const __m128i *)p), _mm_setzero_si128());
    const __m128i rest = _mm_and_si128(half, _mm_set1_epi32(0x7FFF));
    const __m128i sign = _mm_slli_epi32(_mm_xor_si128(half, rest), 16);
    /* The exponent's bias goes from 15 to 127, and that of infinity as far again. */
    const __m128i rebias = _mm_set1_epi32((127 - 15) << 23);
    const __m128i infinite = _mm_and_si128(_mm_cmpgt_epi32(rest, _mm_set1_epi32(0x7BFF)), rebias);
    const __m128i normal = _mm_add_epi32(_mm_add_epi32(_mm_slli_epi32(rest, 13), rebias), infinite);
    const __m128 subnormal = _mm_mul_ps(_mm_cvtepi32_ps(rest), _mm_set1_ps(0x1p-24f));
    const __m128i is_normal = _mm_cmpgt_epi32(rest, _mm_set1_epi32(0x03FF));
    return _mm_castsi128_ps(_mm_or_si128(sign, vec_choose(is_normal, normal, _mm_castps_si128(subnormal))));
}

static inline vec vec_load_int8(const int8_t *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    const __m128i bytes = _mm_cvtsi32_si128(four), pairs = _mm_unpacklo_epi8(bytes, bytes);
    return _mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(pairs, pairs), 24));
}

static inline void vec_store_half(uint16_t *p, vec x)
{
    const __m128i bits = _mm_castps_si128(x), sign = _mm_and_si128(bits, _mm_set1_epi32(INT32_MIN));
    /* All from 65520 on rounds to infinity, as 65520 does. */
    const __m128 magnitude = _mm_min_ps(_mm_castsi128_ps(_mm_xor_si128(bits, sign)), _mm_set1_ps(65520.0f));
    const __m128i rest = _mm_castps_si128(magnitude);
    /* Normal: drop 13 bits, adding just under half of the last kept one, and one more if that one is odd. */
    const __m128i odd = _mm_and_si128(_mm_srli_epi32(rest, 13), _mm_set1_epi32(1));
    const __m128i rebias = _mm_set1_epi32(0xFFF - ((127 - 15) << 23));
    const __m128i normal = _mm_srli_epi32(_mm_add_epi32(_mm_add_epi32(rest, rebias), odd), 13);
    /* Subnormal: adding 0.5 puts the half's last bit at the float's last bit, and the addition rounds. */
    const __m128 one_half = _mm_set1_ps(0.5f);
    const __m128i sum = _mm_castps_si128(_mm_add_ps(magnitude, one_half));
    const __m128i subnormal = _mm_sub_epi32(sum, _mm_castps_si128(one_half));
    const __m128i is_normal = _mm_castps_si128(_mm_cmpnlt_ps(magnitude, _mm_set1_ps(0x1p-14f)));
    const __m128i half = vec_choose(is_normal, normal, subnormal);
    /* Packing saturates to int16: with the sign in all upper bits, each number fits. */
    const __m128i extended = _mm_or_si128(half, _mm_srai_epi32(sign, 16));
    _mm_storel_epi64((__m128i *)p, _mm_packs_epi32(extended, extended));
}

static inline void vec_transpose(vec rows[WDT_LANES])
{
    const vec low01 = _mm_unpacklo_ps(rows[0], rows[1]), high01 = _mm_unpackhi_ps(rows[0], rows[1]);
    const vec low23 = _mm_unpacklo_ps(rows[2], rows[3]), high23 = _mm_unpackhi_ps(rows[2], rows[3]);
    rows[0] = _mm_movelh_ps(low01, low23);
    rows[1] = _mm_movehl_ps(low23, low01);
    rows[2] = _mm_movelh_ps(high01, high23);
    rows[3] = _mm_movehl_ps(high23, high01);
}

static inline vec vec_sums(const vec rows[WDT_LANES])
{
    const vec pairs01 = _mm_add_ps(_mm_unpacklo_ps(rows[0], rows[1]), _mm_unpackhi_ps(rows[0], rows[1]));
    const vec pairs23 = _mm_add_ps(_mm_unpacklo_ps(rows[2], rows[3]), _mm_unpackhi_ps(rows[2], rows[3]));
    return _mm_add_ps(_mm_movelh_ps(pairs01, pairs23), _mm_movehl_ps(pairs23, pairs01));
}

static inline float vec_sum(vec x)
{
    const __m128 two = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

#endif
