/* AVX-512 (F, VL, BW, DQ): 16 lanes, 32 registers, a bit a lane to choose by. */
#ifndef WDT_AVX512_H
#define WDT_AVX512_H

#include <immintrin.h>

#define WDT_LANES 16
#define WDT_ACCUMULATORS 24

typedef __m512 vec;

static inline vec vec_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void vec_store(float *p, vec x) { _mm512_storeu_ps(p, x); }
static inline vec vec_set1(float x) { return _mm512_set1_ps(x); }
static inline vec vec_add(vec a, vec b) { return _mm512_add_ps(a, b); }
static inline vec vec_sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
static inline vec vec_mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
static inline vec vec_div(vec a, vec b) { return _mm512_div_ps(a, b); }
static inline vec vec_max(vec a, vec b) { return _mm512_max_ps(a, b); }
static inline vec vec_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }

static inline vec vec_scale_by_power(vec x, vec rounded_n)
{
    const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(rounded_n), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x), exponent));
}

static inline vec vec_zero_below(vec x, vec y, vec limit)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(y, limit, _CMP_NLT_UQ), x);
}

static inline vec vec_keep(vec x, uint32_t lanes, vec y) { return _mm512_mask_mov_ps(y, (__mmask16)lanes, x); }

static inline vec vec_load_half(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

static inline vec vec_load_int8(const int8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

static inline void vec_store_half(uint16_t *p, vec x)
{
    const __mmask16 all = 0xFFFF; /* the intrinsic without a mask is a macro that warns where nothing is optimised */
    _mm256_storeu_si256((__m256i *)p, _mm512_maskz_cvtps_ph(all, x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

static inline void vec_transpose(vec rows[WDT_LANES])
{
    vec pairs[16], quads[16], eights[16];
    for (int i = 0; i < 16; i += 2) { /* lanes of two rows alternate */
        pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) { /* lane 4 j + c of four rows is quarter j of quads[i + c] */
        quads[i] = _mm512_shuffle_ps(pairs[i], pairs[i + 2], _MM_SHUFFLE(1, 0, 1, 0));
        quads[i + 1] = _mm512_shuffle_ps(pairs[i], pairs[i + 2], _MM_SHUFFLE(3, 2, 3, 2));
        quads[i + 2] = _mm512_shuffle_ps(pairs[i + 1], pairs[i + 3], _MM_SHUFFLE(1, 0, 1, 0));
        quads[i + 3] = _mm512_shuffle_ps(pairs[i + 1], pairs[i + 3], _MM_SHUFFLE(3, 2, 3, 2));
    }
    for (int i = 0; i < 4; i++) { /* the even quarters of two, then the odd ones */
        eights[i] = _mm512_shuffle_f32x4(quads[i], quads[i + 4], _MM_SHUFFLE(2, 0, 2, 0));
        eights[i + 4] = _mm512_shuffle_f32x4(quads[i], quads[i + 4], _MM_SHUFFLE(3, 1, 3, 1));
        eights[i + 8] = _mm512_shuffle_f32x4(quads[i + 8], quads[i + 12], _MM_SHUFFLE(2, 0, 2, 0));
        eights[i + 12] = _mm512_shuffle_f32x4(quads[i + 8], quads[i + 12], _MM_SHUFFLE(3, 1, 3, 1));
    }
    for (int i = 0; i < 8; i++) { /* and once more: quarters 0, 1 from the even places, 2, 3 from the odd ones */
        rows[i] = _mm512_shuffle_f32x4(eights[i], eights[i + 8], _MM_SHUFFLE(2, 0, 2, 0));
        rows[i + 8] = _mm512_shuffle_f32x4(eights[i], eights[i + 8], _MM_SHUFFLE(3, 1, 3, 1));
    }
}

/* As in avx2.h, with one more round of merges, by quarters of the registers. */
static inline vec vec_sums(const vec rows[WDT_LANES])
{
    vec pairs[8], fours[4], eights[2];
    for (int i = 0; i < 8; i++) {
        pairs[i] = _mm512_add_ps(_mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]),
                                 _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]));
    }
    for (int i = 0; i < 4; i++) {
        fours[i] = _mm512_add_ps(_mm512_shuffle_ps(pairs[2 * i], pairs[2 * i + 1], _MM_SHUFFLE(1, 0, 1, 0)),
                                 _mm512_shuffle_ps(pairs[2 * i], pairs[2 * i + 1], _MM_SHUFFLE(3, 2, 3, 2)));
    }
    for (int i = 0; i < 2; i++) {
        eights[i] = _mm512_add_ps(_mm512_shuffle_f32x4(fours[2 * i], fours[2 * i + 1], _MM_SHUFFLE(2, 0, 2, 0)),
                                  _mm512_shuffle_f32x4(fours[2 * i], fours[2 * i + 1], _MM_SHUFFLE(3, 1, 3, 1)));
    }
    return _mm512_add_ps(_mm512_shuffle_f32x4(eights[0], eights[1], _MM_SHUFFLE(2, 0, 2, 0)),
                         _mm512_shuffle_f32x4(eights[0], eights[1], _MM_SHUFFLE(3, 1, 3, 1)));
}

static inline float vec_sum(vec x) { return _mm512_reduce_add_ps(x); }

#endif
