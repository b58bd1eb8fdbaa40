/* Every instruction set against the scalar kernels, on memory of exactly the stated sizes: the window pass and its
 * gradient, and that the cut into shares changes no bit. */
#include <math.h>
#include <string.h>

#include "random.h"
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

static float largest(const float *x, size_t n)
{
    float most = 0.0f;
    for (size_t j = 0; j < n; j++) {
        most = isnan(x[j]) ? INFINITY : fmaxf(most, fabsf(x[j]));
    }
    return most;
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
    CHECK(largest(pass.dv, in.key) <= (float)(in.T * in.head.q_heads)); /* of that many queries, at most 1 each */
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

int main(void)
{
    const char *names[WDT_MAX_INSTRUCTION_SETS];
    float sink;
    for (int set = wdt_instruction_sets(names) - 1; set >= 0; set--) {
        for (int round = 0; round < 120; round++) {
            equals_scalar(names[set]);
            huge_scores_have_a_bounded_gradient();
        }
        an_empty_share_touches_nothing();
        CHECK(wdt_multiply_add(10, &sink) > 0 && isfinite(sink));
    }
    return 0;
}
