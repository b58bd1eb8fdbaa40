/* Every instruction set against the scalar kernels, on memory of exactly the stated sizes: the window pass and its
 * gradient, that the cut into shares changes no bit; one position's rows of every dtype and scale. And the
 * exponentials of the sets without vectors. */
#include <math.h>
#include <string.h>

#include "block.h"
#include "exponential.h"
#include "kernels.h"
#include "kernel_inputs.h"
#include "wdt_kernels.h"

/* One window pass and its gradient; arrays are [T, Hq, D] or [T, Hkv, D]. */
typedef struct pass {
    float *out, *log_sum, *dq, *dk, *dv;
} pass;

typedef struct inputs {
    wdt_head head;
    ptrdiff_t T;
    size_t query, key; /* numbers in [T, Hq, D] and [T, Hkv, D] */
    float *q, *k, *v, *d_out;
} inputs;

static inputs random_inputs(void)
{
    inputs in = {.head = random_head(), .T = (ptrdiff_t)draw(draw(4) ? 70 : 400)};
    in.query = (size_t)in.T * (size_t)(in.head.q_heads * in.head.head_dim);
    in.key = (size_t)in.T * (size_t)(in.head.kv_heads * in.head.head_dim);
    in.q = random_floats(in.query);
    in.k = random_floats(in.key);
    in.v = random_floats(in.key);
    in.d_out = random_floats(in.query);
    return in;
}

static pass run(const inputs *in, int shares)
{
    const size_t rows = (size_t)in->T * (size_t)in->head.q_heads;
    pass pass = {random_floats(in->query), random_floats(rows), random_floats(in->query), random_floats(in->key),
                 random_floats(in->key)};
    const size_t room = wdt_window_scratch_bytes(&in->head, in->T);
    void *prepared = malloc(wdt_window_prepared_bytes(&in->head, in->T) + 1), *scratch = malloc(room + 1);
    void *backward = malloc(wdt_window_backward_bytes(&in->head, in->T) + 1);
    wdt_window window = {.head = &in->head, .T = in->T, .q = in->q, .k = in->k, .v = in->v, .out = pass.out,
                         .log_sum = pass.log_sum, .prepared = prepared};
    for (; window.kv_head < in->head.kv_heads; window.kv_head++) {
        for (int share = shares; share-- > 0;) {
            wdt_window_prepare(&window, share, shares);
        }
        for (int share = shares; share-- > 0;) {
            memset(scratch, 0xFF, room); /* nothing may be expected there */
            wdt_window_attend(&window, share, shares, scratch);
        }
        memset(backward, 0xFF, wdt_window_backward_bytes(&in->head, in->T));
        wdt_window_backward(&window, in->d_out, pass.dq, pass.dk, pass.dv, backward);
    }
    free(prepared), free(scratch), free(backward);
    return pass;
}

static void free_pass(pass pass)
{
    free(pass.out), free(pass.log_sum), free(pass.dq), free(pass.dk), free(pass.dv);
}

static void check_close(const float *a, const float *b, size_t n, float tolerance)
{
    for (size_t j = 0; j < n; j++) {
        CHECK(fabsf(a[j] - b[j]) <= tolerance);
    }
}

/* Relative to the largest; where all should cancel to zero, g . v - g . out of some 70 numbers up to 1 is what rounding
 * leaves of it. */
static void check_gradient(const float *a, const float *b, size_t n)
{
    check_close(a, b, n, 1e-5f * largest(b, n) + 1e-6f);
}

static void equals_scalar(const char *set)
{
    const inputs in = random_inputs();
    const size_t rows = (size_t)in.T * (size_t)in.head.q_heads;
    CHECK(wdt_use_instruction_set("scalar") == WDT_OK);
    const pass plain = run(&in, 1);
    CHECK(wdt_use_instruction_set(set) == WDT_OK);
    const pass fast = run(&in, 1), shared = run(&in, 1 + (int)draw(7));
    check_close(fast.out, plain.out, in.query, 1e-6f);
    check_close(fast.log_sum, plain.log_sum, rows, 4e-6f); /* an ulp of the log of some hundred, and of its sum */
    check_gradient(fast.dq, plain.dq, in.query);
    check_gradient(fast.dk, plain.dk, in.key);
    check_gradient(fast.dv, plain.dv, in.key);
    CHECK(memcmp(fast.out, shared.out, in.query * sizeof(float)) == 0);
    CHECK(memcmp(fast.log_sum, shared.log_sum, rows * sizeof(float)) == 0);
    CHECK(memcmp(fast.dk, shared.dk, in.key * sizeof(float)) == 0);
    free_pass(plain), free_pass(fast), free_pass(shared);
    free(in.q), free(in.k), free(in.v), free(in.d_out);
}

/* Scores of 10^8 and more have no digit behind the point, and softmax picks one candidate: its weight is 1 and not more,
 * or the gradient would be anything. */
static void huge_scores_have_a_bounded_gradient(void)
{
    inputs in = random_inputs();
    for (size_t j = 0; j < in.query; j++) {
        in.q[j] *= 1e5f;
    }
    for (size_t j = 0; j < in.key; j++) {
        in.k[j] *= 1e5f;
    }
    const pass pass = run(&in, 1);
    CHECK(largest(pass.out, in.query) <= 1.001f);
    /* Of that many queries at most 1 each, and once more where a block of one token is its landmark: beside such a score
     * the log of a sum of two is lost. */
    CHECK(largest(pass.dv, in.key) <= 2.0f * (float)(in.T * in.head.q_heads));
    CHECK(isfinite(largest(pass.dq, in.query)) && isfinite(largest(pass.dk, in.key)));
    free_pass(pass);
    free(in.q), free(in.k), free(in.v), free(in.d_out);
}

/* A share may be empty, and sizes that no machine has are still computed right. */
static void an_empty_share_touches_nothing(void)
{
    wdt_head head = wdt_head_default();
    head.head_dim = WDT_MAX_EXTENT;
    wdt_window window = {.head = &head, .T = 1};
    char scratch[65536];
    wdt_window_attend(&window, 1, 2, scratch);
    const size_t room = wdt_window_scratch_bytes(&head, 1);
    CHECK(room > (size_t)WDT_MAX_EXTENT || room == 0); /* a set without vectors needs none */
}

/* ------------------------------------------------------------------------------------------- one position's rows */

enum { MOST_ROWS = 120 };

/* Rows and candidates of one call: tokens in an interval and single, and landmarks. */
typedef struct position {
    int heads, D;
    ptrdiff_t n_tokens, n_landmarks;
    float *q, *key, *value, *landmark_key, *landmark_value; /* as float32 */
    uint16_t *half_key, *half_value;
    wdt_rows tokens, landmarks;
    wdt_candidates of_tokens, of_landmarks;
} position;

static wdt_candidates random_candidates(ptrdiff_t n)
{
    wdt_candidates candidates = {.begin = 0, .end = n};
    for (int s = 0; s < 5 && n > 1 && draw(2); s++) {
        candidates.singles[candidates.n_singles++] = --candidates.end;
        n--;
    }
    return candidates;
}

static position random_position(int heads, int D, ptrdiff_t n_tokens, int half)
{
    position at = {.heads = heads, .D = D, .n_tokens = n_tokens, .n_landmarks = (ptrdiff_t)draw(9)};
    const size_t tokens = (size_t)(n_tokens * D), landmarks = (size_t)(at.n_landmarks * D);
    at.q = random_floats((size_t)(heads * D));
    at.key = random_floats(tokens), at.value = random_floats(tokens);
    at.landmark_key = random_floats(landmarks), at.landmark_value = random_floats(landmarks);
    at.half_key = to_half(at.key, tokens), at.half_value = to_half(at.value, tokens);
    at.tokens = half ? (wdt_rows){at.half_key, at.half_value, D, 1, WDT_NO_RING}
                     : (wdt_rows){at.key, at.value, D, 0, WDT_NO_RING};
    at.landmarks = (wdt_rows){at.landmark_key, at.landmark_value, D, 0, WDT_NO_RING};
    at.of_tokens = random_candidates(n_tokens);
    at.of_landmarks = random_candidates(at.n_landmarks);
    return at;
}

static void free_position(position at)
{
    free(at.q), free(at.key), free(at.value), free(at.landmark_key), free(at.landmark_value);
    free(at.half_key), free(at.half_value);
}

/* Adds a row's part to out [D], and weight times its largest value to reach; returns its weight. */
static double add_exactly(const position *at, const float *q, const float *key, const float *value, double *out,
                          double *reach)
{
    double score = 0.0, most = 0.0;
    for (int d = 0; d < at->D; d++) {
        score += (double)q[d] * (double)key[d];
        most = fmax(most, fabs((double)value[d]));
    }
    const double weight = exp(score / sqrt((double)at->D));
    for (int d = 0; d < at->D; d++) {
        out[d] += weight * (double)value[d];
    }
    *reach += weight * most;
    return weight;
}

/* The set in use against float64: the error is within `tolerance` of the weighted sum of rows' largest values. */
static void check_position(const position *at, const float *values, float tolerance)
{
    float *const out = random_floats((size_t)(at->heads * at->D));
    wdt_kernels_in_use()->attend(at->q, at->heads, at->D, &at->tokens, &at->of_tokens, &at->landmarks,
                                 &at->of_landmarks, out);
    for (int h = 0; h < at->heads; h++) {
        const float *const q = at->q + h * at->D;
        double exact[128] = {0}, reach = 0.0, total = 0.0;
        for (ptrdiff_t j = 0; j < at->n_tokens; j++) {
            total += add_exactly(at, q, at->key + j * at->D, values + j * at->D, exact, &reach);
        }
        for (ptrdiff_t j = 0; j < at->n_landmarks; j++) {
            total += add_exactly(at, q, at->landmark_key + j * at->D, at->landmark_value + j * at->D, exact, &reach);
        }
        for (int d = 0; d < at->D; d++) {
            CHECK(fabs((double)out[h * at->D + d] - exact[d] / total) <= (double)tolerance * reach / total + 1e-36);
        }
    }
    free(out);
}

static void rows_of_every_kind_are_attended(void)
{
    static const int groups[] = {1, 2, 3, 4, 5, 8};
    for (int round = 0; round < 2 * WDT_ROUNDS; round++) {
        const ptrdiff_t n = round % 2 ? 1 + (ptrdiff_t)draw(MOST_ROWS) : 40 + (ptrdiff_t)draw(12); /* around a chunk */
        position at = random_position(groups[round % 6], 1 + (int)draw(70), n, round / 6 % 2);
        check_position(&at, at.value, 1e-6f);
        if (draw(2)) { /* one array that is both keys and values */
            at.tokens.values = at.tokens.keys;
            check_position(&at, at.key, 1e-6f);
        }
        free_position(at);
    }
}

/* Values of 2^-40 to 2^39, row by row: a large row of little weight does not take from a small one of large weight. */
static void rows_of_different_scale_do_not_disturb_each_other(void)
{
    for (int round = 0; round < WDT_ROUNDS / 2; round++) {
        position at = random_position(1 + (int)draw(5), 1 + (int)draw(40), 1 + (ptrdiff_t)draw(60), 0);
        for (size_t j = 0; j < (size_t)(at.heads * at.D); j++) {
            at.q[j] *= 8.0f;
        }
        for (ptrdiff_t j = 0; j < at.n_tokens; j++) {
            const int power = (int)draw(80) - 40;
            for (int d = 0; d < at.D; d++) {
                at.value[j * at.D + d] = ldexpf(at.value[j * at.D + d], power);
            }
        }
        check_position(&at, at.value, 4e-6f); /* scores of up to 8 sqrt(D) = 50 have an ulp of 3.8e-6 */
        free_position(at);
    }
}

/* A key so large, and so far from the query, that its weight is 0: the others' scores keep their digits. */
static void a_large_key_does_not_disturb_the_others(void)
{
    for (int power = 1; power <= 39; power++) {
        position at = random_position(1, 1 + (int)draw(40), 60, 0);
        at.q[0] = 1.0f; /* the large key's score is at most -2^power / sqrt(D) */
        float *const large = at.key + (ptrdiff_t)draw(60) * at.D;
        for (int d = 0; d < at.D; d++) {
            large[d] = -ldexpf(at.q[d], power);
        }
        check_position(&at, at.value, 1e-6f);
        free_position(at);
    }
}

/* Scores of up to 10^24 D, the largest that there are, and of down to 0: the largest one alone counts, or all the same. */
static void scores_of_any_size_are_told_apart(void)
{
    for (int power = -140; power <= 39; power++) {
        position at = random_position(3, 1 + (int)draw(40), 60, 0);
        const ptrdiff_t best = (ptrdiff_t)draw(60);
        at.of_tokens = (wdt_candidates){.begin = 0, .end = 60};
        at.of_landmarks = (wdt_candidates){.begin = 0, .end = 0};
        for (int d = 0; d < at.D; d++) {
            for (int h = 0; h < 3; h++) {
                at.q[h * at.D + d] = ldexpf(1.0f, power);
            }
            for (ptrdiff_t j = 0; j < 60; j++) {
                at.key[j * at.D + d] = ldexpf(j == best ? 1.0f : 0.5f, power);
            }
        }
        float *const out = random_floats((size_t)(3 * at.D));
        wdt_kernels_in_use()->attend(at.q, 3, at.D, &at.tokens, &at.of_tokens, &at.landmarks, &at.of_landmarks, out);
        for (int d = 0; d < at.D; d++) {
            float mean = 0.0f;
            for (ptrdiff_t j = 0; j < 60; j++) {
                mean += at.value[j * at.D + d] / 60.0f;
            }
            CHECK(isfinite(out[d]));
            CHECK(power < 4 || fabsf(out[d] - at.value[best * at.D + d]) <= 1e-6f);
            CHECK(power > -14 || fabsf(out[d] - mean) <= 1e-6f);
        }
        free(out);
        free_position(at);
    }
}

/* -------------------------------------------------------------------------------------------------- exponentials */

/* Every 997th float of the range; wdt_exp's comment has the figures of all of them. */
static void exp_is_close(void)
{
    const double most = WDT_HAS_FMA ? 0.9 : 1.2; /* ulp */
    const float ends[] = {WDT_EXP_HIGHEST, WDT_EXP_LOWEST};
    for (int end = 0; end < 2; end++) {
        const uint32_t last = wdt_float_bits(ends[end]);
        for (uint32_t bits = last & 0x80000000u; bits <= last; bits += 997) {
            int exponent;
            const double exact = exp((double)wdt_bits_float(bits));
            frexp(exact, &exponent);
            CHECK(fabs((double)wdt_exp(wdt_bits_float(bits)) - exact) <= most * ldexp(1.0, exponent - 24));
        }
    }
    CHECK(wdt_exp(0.0f) == 1.0f && wdt_exp(-0.0f) == 1.0f);
    CHECK(wdt_exp(-INFINITY) == 0.0f && wdt_exp(nextafterf(WDT_EXP_LOWEST, -INFINITY)) == 0.0f);
}

static void powers_of_two_are_close(void)
{
    int32_t drop;
    for (uint32_t distance = 0; distance < 64u << 24; distance += 499) {
        const int32_t m = wdt_power_of_two(distance, &drop);
        const double exact = exp2(-(double)distance / 0x1p24);
        CHECK(m >= 1 << 29 && m <= 1 << 30);
        CHECK(fabs(ldexp((double)m, -29 - drop) / exact - 1.0) <= 0x1p-28);
    }
    CHECK(wdt_power_of_two(0, &drop) == 1 << 29 && drop == 0);
    CHECK(wdt_power_of_two(5u << 24, &drop) == 1 << 29 && drop == 5);
    CHECK(wdt_power_of_two(64u << 24, &drop) == 0 && wdt_power_of_two(UINT32_MAX, &drop) == 0);
}

/* Every half, and floats of every exponent, alone in a row and beside a larger number. */
static void mantissas_are_cut_towards_zero(void)
{
    for (uint32_t n = 0; n < 200000; n++) {
        const int half = n < 0x10000;
        const uint32_t bits = n * 2654435761u;
        const uint16_t halves[2] = {(uint16_t)n, (uint16_t)draw(0x7C00)};
        const float floats[2] = {wdt_bits_float(bits), wdt_bits_float(draw(0x7F800000))};
        const void *const row = half ? (const void *)halves : (const void *)floats;
        if ((half ? n & 0x7C00u : bits >> 13 & 0x3FC00u) == (half ? 0x7C00u : 0x3FC00u)) {
            continue; /* infinity, NaN */
        }
        for (ptrdiff_t numbers = 1; numbers <= 2; numbers++) {
            const int32_t E = wdt_block_exponent(row, half, numbers), m = wdt_block_mantissa(row, half, 0, E);
            const double x = (double)wdt_number_at(row, half, 0), unit = ldexp(1.0, E - WDT_BLOCK_BIAS);
            CHECK(abs(m) < 1 << 30);
            CHECK(fabs(x) < 0x1p-126 ? fabs(m * unit) <= fabs(x) : m == (int32_t)(x / unit));
        }
    }
}

int main(void)
{
    const char *names[WDT_MAX_INSTRUCTION_SETS];
    float sink;
    exp_is_close();
    powers_of_two_are_close();
    mantissas_are_cut_towards_zero();
    for (int set = wdt_instruction_sets(names) - 1; set >= 0; set--) {
        for (int round = 0; round < WDT_ROUNDS; round++) {
            equals_scalar(names[set]);
            huge_scores_have_a_bounded_gradient();
        }
        an_empty_share_touches_nothing();
        rows_of_every_kind_are_attended();
        rows_of_different_scale_do_not_disturb_each_other();
        a_large_key_does_not_disturb_the_others();
        scores_of_any_size_are_told_apart();
        CHECK(wdt_multiply_add(10, &sink) > 0 && isfinite(sink));
    }
    return 0;
}
