/* Every operation of the vector layer against plain C. Compiled once for each instruction set, with its options; on a
 * processor that lacks the set it says so and returns 77, which CTest takes for skipped.
 *
 * vec_exp is looked at in every 61st float of its range; the program's argument is another step, and with 1 it looks at
 * all 2.2 billion, in about a minute without sanitizers. The figures in the comment at vec_exp are from there. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "half.h"
#include "vector/vector.h"

#define SKIPPED 77

/* Whether vec_fma rounds once; the largest error of vec_exp in ulp otherwise and then. */
#if defined(WDT_SSE2_H)
#define FUSED 0
#define EXP_ULPS 1.2
#else
#define FUSED 1
#define EXP_ULPS 0.9
#endif

typedef float numbers[WDT_LANES];

/* The i-th of numbers between 2^-16 and 2^16 in magnitude, of either sign and with all bits in use. */
static float sample(uint32_t i)
{
    const uint32_t bits = i * 2654435761u;
    return wdt_bits_float((bits & 0x807FFFFFu) | (127 - 16 + (bits >> 23 & 31u)) << 23);
}

static vec samples(uint32_t first, numbers copy)
{
    for (uint32_t j = 0; j < WDT_LANES; j++) {
        copy[j] = sample(first + j);
    }
    return vec_load(copy);
}

/* Each lane of x has exactly these bits. */
static void check_bits(vec x, const numbers expected)
{
    numbers lanes;
    vec_store(lanes, x);
    CHECK(memcmp(lanes, expected, sizeof lanes) == 0);
}

static void arithmetic_is_plain_cs(void)
{
    for (uint32_t i = 0; i < 100000; i += 3 * WDT_LANES) {
        numbers a, b, c, sum, difference, product, quotient, largest, fused;
        const vec x = samples(i, a), y = samples(i + WDT_LANES, b), z = samples(i + 2 * WDT_LANES, c);
        for (int j = 0; j < WDT_LANES; j++) {
            sum[j] = a[j] + b[j];
            difference[j] = a[j] - b[j];
            product[j] = a[j] * b[j];
            quotient[j] = a[j] / b[j];
            largest[j] = a[j] > b[j] ? a[j] : b[j];
            fused[j] = FUSED ? fmaf(a[j], b[j], c[j]) : product[j] + c[j];
        }
        check_bits(vec_add(x, y), sum);
        check_bits(vec_sub(x, y), difference);
        check_bits(vec_mul(x, y), product);
        check_bits(vec_div(x, y), quotient);
        check_bits(vec_max(x, y), largest);
        check_bits(vec_fma(x, y, z), fused);
    }
    numbers ones;
    for (int j = 0; j < WDT_LANES; j++) {
        ones[j] = 1.1f;
    }
    check_bits(vec_set1(1.1f), ones);
}

/* From every address, in memory that ends with the last lane. */
static void every_int8_becomes_its_float(void)
{
    for (size_t start = 0; start < 16; start++) {
        for (int first = -128; first < 128; first += WDT_LANES) {
            int8_t *const bytes = malloc(start + WDT_LANES);
            numbers expected;
            CHECK(bytes != NULL);
            for (int j = 0; j < WDT_LANES; j++) {
                bytes[start + (size_t)j] = (int8_t)(first + j);
                expected[j] = (float)(first + j);
            }
            check_bits(vec_load_int8(bytes + start), expected);
            free(bytes);
        }
    }
}

/* From every alignment that a float can have, in memory that ends with the last lane. */
static void loads_and_stores_start_at_any_float(void)
{
    for (size_t start = 0; start < 16; start++) {
        float *x = malloc((start + WDT_LANES) * sizeof *x), *y = malloc((start + WDT_LANES) * sizeof *y);
        uint16_t *half = malloc((start + WDT_LANES) * sizeof *half);
        CHECK(x && y && half);
        for (size_t j = 0; j < WDT_LANES; j++) {
            x[start + j] = (float)(j + 1);
        }
        vec_store(y + start, vec_load(x + start));
        CHECK(memcmp(x + start, y + start, sizeof(numbers)) == 0);
        vec_store_half(half + start, vec_load(x + start));
        vec_store(y + start, vec_mul(vec_load_half(half + start), vec_set1(-1.0f)));
        for (size_t j = 0; j < WDT_LANES; j++) {
            CHECK(half[start + j] == wdt_float_to_half(x[start + j]) && y[start + j] == -x[start + j]);
        }
        free(x), free(y), free(half);
    }
}

static void the_first_lanes_alone_are_touched(void)
{
    for (size_t n = 0; n < WDT_LANES; n++) {
        float *x = malloc(n * sizeof *x);
        uint16_t *half = malloc(n * sizeof *half);
        numbers expected = {0}, stored, copy;
        const vec all = samples(0, stored);
        CHECK(n == 0 || (x && half));
        for (size_t j = 0; j < n; j++) {
            x[j] = expected[j] = (float)(j + 1);
            half[j] = wdt_float_to_half(x[j]);
        }
        check_bits(vec_load_first(x, (ptrdiff_t)n), expected);
        check_bits(vec_load_half_first(half, (ptrdiff_t)n), expected);
        vec_store_first(x, all, (ptrdiff_t)n);
        CHECK(n == 0 || memcmp(x, stored, n * sizeof *x) == 0);
        memset(copy, 0, sizeof copy); /* again where the lanes behind can be looked at without a sanitizer */
        vec_store_first(copy, all, (ptrdiff_t)n);
        memset(stored + n, 0, (WDT_LANES - n) * sizeof *stored);
        CHECK(memcmp(copy, stored, sizeof copy) == 0);
        free(x), free(half);
    }
}

static vec load_half(const uint16_t *p, ptrdiff_t n)
{
    return n < WDT_LANES ? vec_load_half_first(p, n) : vec_load_half(p);
}

static void rows_of_any_length_end_where_they_end(void)
{
    for (ptrdiff_t D = 1; D <= 3 * WDT_LANES; D++) {
        float *x = malloc((size_t)D * sizeof *x), *y = malloc((size_t)D * sizeof *y);
        uint16_t *half = malloc((size_t)D * sizeof *half);
        CHECK(x && y && half);
        for (ptrdiff_t d = 0; d < D; d++) {
            x[d] = (float)(d + 1);
            half[d] = wdt_float_to_half(x[d]);
        }
        for (ptrdiff_t d = 0; d < D; d += WDT_LANES) {
            store_row(y, d, D, vec_sub(vec_mul(load_row(x, d, D), vec_set1(3.0f)), load_half(half + d, D - d)));
        }
        for (ptrdiff_t d = 0; d < D; d++) {
            CHECK(y[d] == 2.0f * x[d]);
        }
        free(x), free(y), free(half);
    }
}

static void each_lane_is_kept_by_its_bit(void)
{
    numbers a, b, expected;
    const vec x = samples(0, a), y = samples(WDT_LANES, b);
    for (uint32_t lanes = 0; lanes <= WDT_ALL_LANES; lanes++) {
        for (int j = 0; j < WDT_LANES; j++) {
            expected[j] = lanes >> j & 1u ? a[j] : b[j];
        }
        check_bits(vec_keep(x, lanes, y), expected);
        check_bits(vec_keep(x, lanes | ~WDT_ALL_LANES, y), expected);
    }
}

static void lanes_below_the_limit_are_zero(void)
{
    const float below[] = {-INFINITY, -1.5f, 0x1.fffffep-1f}, others[] = {1.0f, 0x1.000002p+0f, INFINITY};
    for (int round = 0; round < 3 * WDT_LANES; round++) {
        numbers a, y, expected;
        samples((uint32_t)round, a);
        for (int j = 0; j < WDT_LANES; j++) {
            const int zero = (round + j) % 5 == 0;
            y[j] = (zero ? below : others)[(round + j) % 3];
            expected[j] = zero ? 0.0f : a[j];
            a[j] = zero ? NAN : a[j];
        }
        check_bits(vec_zero_below(vec_load(a), vec_load(y), vec_set1(1.0f)), expected);
    }
}

static void rows_become_columns(void)
{
    vec rows[WDT_LANES];
    numbers expected;
    for (int i = 0; i < WDT_LANES; i++) {
        for (int j = 0; j < WDT_LANES; j++) {
            expected[j] = (float)(WDT_LANES * i + j);
        }
        rows[i] = vec_load(expected);
    }
    vec_transpose(rows);
    for (int i = 0; i < WDT_LANES; i++) {
        for (int j = 0; j < WDT_LANES; j++) {
            expected[j] = (float)(WDT_LANES * j + i);
        }
        check_bits(rows[i], expected);
    }
    for (int i = 0; i < WDT_LANES; i++) { /* the sum over j of WDT_LANES j + i */
        expected[i] = (float)(WDT_LANES * (WDT_LANES * (WDT_LANES - 1) / 2 + i));
    }
    check_bits(vec_sums(rows), expected);
}

static void every_lane_counts(void)
{
    for (int at = 0; at < WDT_LANES; at++) {
        numbers x;
        float sum = 0.0f;
        for (int j = 0; j < WDT_LANES; j++) {
            x[j] = (float)(1 << j); /* no two selections of lanes have the same sum, and each is exact */
        }
        x[at] = -x[at];
        for (int j = 0; j < WDT_LANES; j++) {
            sum += x[j];
        }
        CHECK(vec_sum(vec_load(x)) == sum);
    }
}

/* All exponents that a normal float has, from and to. */
static void scaling_changes_the_exponent_alone(void)
{
    for (int from = -126; from <= 127; from++) {
        for (int to = -126; to <= 127; to++) {
            numbers a, powers, expected;
            for (int j = 0; j < WDT_LANES; j++) {
                const int other = -126 + (to + 126 + j) % 254;
                const uint32_t fraction = wdt_float_bits(sample((uint32_t)(from + to + j))) & 0x807FFFFFu;
                a[j] = wdt_bits_float(fraction | (uint32_t)(127 + from) << 23);
                powers[j] = (float)(other - from);
                expected[j] = ldexpf(a[j], other - from);
            }
            check_bits(vec_scale_by_power(vec_load(a), vec_add(vec_load(powers), vec_set1(WDT_ROUNDER))), expected);
        }
    }
}

static void every_half_becomes_its_float(void)
{
    for (uint32_t first = 0; first < 0x10000; first += WDT_LANES) {
        uint16_t halves[WDT_LANES];
        numbers x;
        for (uint32_t j = 0; j < WDT_LANES; j++) {
            halves[j] = (uint16_t)(first + j);
        }
        vec_store(x, vec_load_half(halves));
        for (int j = 0; j < WDT_LANES; j++) {
            const float expected = wdt_half_to_float(halves[j]);
            CHECK(isnan(expected) ? isnan(x[j]) : wdt_float_bits(x[j]) == wdt_float_bits(expected));
        }
    }
}

/* x and, in the first and the last lane, the floats on either side of it. */
static void check_half(float x)
{
    uint16_t halves[WDT_LANES];
    numbers near;
    for (uint32_t j = 0; j < WDT_LANES; j++) {
        near[j] = x;
    }
    near[0] = nextafterf(x, -INFINITY);
    near[WDT_LANES - 1] = nextafterf(x, INFINITY);
    vec_store_half(halves, vec_load(near));
    for (int j = 0; j < WDT_LANES; j++) {
        CHECK(halves[j] == wdt_float_to_half(near[j]));
    }
}

static void floats_become_their_nearest_half(void)
{
    for (uint32_t half = 0; half < 0x7C00; half++) { /* the last one's neighbour is infinity; 65520 is between */
        const float x = wdt_half_to_float((uint16_t)half);
        const float next = half == 0x7BFF ? 65536.0f : wdt_half_to_float((uint16_t)(half + 1));
        const float between = 0.5f * (x + next);
        check_half(x), check_half(-x);
        check_half(between), check_half(-between);
    }
    for (uint32_t bits = 0; bits < wdt_float_bits(INFINITY); bits += 4099) {
        check_half(wdt_bits_float(bits)), check_half(-wdt_bits_float(bits));
    }
    check_half(INFINITY), check_half(-INFINITY);
}

/* The errors of x's exp in units of the exact one's last place: the largest of them and the worst so far. */
static double exp_error(const numbers x, double worst, float *at)
{
    numbers y;
    vec_store(y, vec_exp(vec_load(x)));
    for (int j = 0; j < WDT_LANES; j++) {
        int exponent;
        const double exact = exp((double)x[j]);
        frexp(exact, &exponent);
        const double error = fabs((double)y[j] - exact) * ldexp(1.0, 24 - exponent);
        if (!(error <= worst)) {
            worst = error;
            *at = x[j];
        }
    }
    return worst;
}

static void exp_is_close(uint32_t step)
{
    const float ends[] = {88.3f, -87.33654f};
    double worst = 0.0;
    float at = 0.0f;
    for (int end = 0; end < 2; end++) {
        const uint32_t last = wdt_float_bits(ends[end]), first = last & 0x80000000u;
        for (uint64_t bits = first; bits <= last; bits += (uint64_t)step * WDT_LANES) {
            numbers x;
            for (uint32_t j = 0; j < WDT_LANES; j++) {
                const uint64_t lane = bits + (uint64_t)step * j;
                x[j] = lane < last ? wdt_bits_float((uint32_t)lane) : ends[end];
            }
            worst = exp_error(x, worst, &at);
        }
    }
    printf("vec_exp: largest error %.4f ulp at %a\n", worst, (double)at);
    CHECK(worst <= EXP_ULPS);
}

static void exp_ends_in_zero(void)
{
    const float below[] = {-INFINITY, -3.4e38f, -1000.0f, -88.0f, nextafterf(-87.33654f, -INFINITY)};
    const numbers zeros = {0};
    for (size_t i = 0; i < sizeof below / sizeof *below; i++) {
        check_bits(vec_exp(vec_set1(below[i])), zeros);
    }
    CHECK(vec_sum(vec_exp(vec_set1(0.0f))) == WDT_LANES && vec_sum(vec_exp(vec_set1(-0.0f))) == WDT_LANES);
}

/* Not a part of main: there, the compiler could use the set before it was looked for. */
__attribute__((noinline)) static void test_all(uint32_t exp_step)
{
    arithmetic_is_plain_cs();
    loads_and_stores_start_at_any_float();
    the_first_lanes_alone_are_touched();
    rows_of_any_length_end_where_they_end();
    each_lane_is_kept_by_its_bit();
    lanes_below_the_limit_are_zero();
    rows_become_columns();
    every_lane_counts();
    scaling_changes_the_exponent_alone();
    every_int8_becomes_its_float();
    every_half_becomes_its_float();
    floats_become_their_nearest_half();
    exp_is_close(exp_step);
    exp_ends_in_zero();
}

static int processor_has_the_set(void)
{
#if defined(WDT_AVX512_H)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
#elif defined(WDT_AVX2_H)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return 1; /* part of every processor of its family */
#endif
}

int main(int argc, char **argv)
{
    if (!processor_has_the_set()) {
        puts("skipped: this processor lacks the instruction set");
        return SKIPPED;
    }
    test_all(argc > 1 ? (uint32_t)atoi(argv[1]) : 61);
    return 0;
}
