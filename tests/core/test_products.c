/* The models' products, of every instruction set and dtype, against sums in double: written and added to, of one row and of
 * several, which change no bit of each other, and with the transpose. */
#include <math.h>
#include <string.h>

#include "kernel_inputs.h"
#include "weights.h"
#include "wdt_kernels.h"

/* An int8 tensor of n numbers with a scale of 2^-power or more; W becomes what it says. */
static void *to_int8(float *W, size_t n, int power)
{
    char *const tensor = malloc((size_t)wdt_tensor_bytes(WDT_INT8, n)); /* the last numbers' loads end with it */
    CHECK(tensor != NULL);
    const float scale = ldexpf(1.0f + (float)draw(1 << 20) / 0x1p20f, -power);
    memcpy(tensor, &scale, sizeof scale);
    for (size_t j = 0; j < n; j++) {
        const int8_t number = (int8_t)((int)draw(256) - 128);
        memcpy(tensor + sizeof scale + j, &number, sizeof number);
        W[j] = scale * (float)number; /* rounded: the product's error may be one more of the last place */
    }
    return tensor;
}

/* Of one row of x: y [n_out] against its sums in double. A float32 sum's error is n_in + 1 roundings of what has been
 * summed; the integer kernels' is far below that, but of a row's largest number. `reach` is the sum of what those may be.
 * W's numbers of an output lie `row` apart, those of an input `column`. */
static void check_sums(const float *x, const float *W, int32_t n_in, int32_t n_out, int32_t row, int32_t column,
                       const float *before, double reach, const float *y)
{
    for (int32_t j = 0; j < n_out; j++) {
        double exact = (double)before[j];
        for (int32_t i = 0; i < n_in; i++) {
            exact += (double)x[i] * (double)W[i * row + j * column];
        }
        CHECK(fabs((double)y[j] - exact) <= ldexp((double)n_in + 1.0, -24) * (reach + fabs((double)before[j])));
    }
}

/* n rows of x; inputs and weights of magnitude 2^-scale to 2^scale. With `add`, y is added to, and else it is written. */
static void check_product(int32_t n, int32_t n_in, int32_t n_out, int dtype, int scale, int add)
{
    const size_t size = (size_t)n_in * (size_t)n_out, outputs = (size_t)n * (size_t)n_out;
    float *const x = random_floats((size_t)n * (size_t)n_in), *const W = random_floats(size);
    float *const before = random_floats(outputs), *const y = malloc(outputs * sizeof *y);
    CHECK(y != NULL);
    for (int32_t i = 0; i < n_in; i++) {
        const int power = (int)draw((uint32_t)(2 * scale + 1)) - scale;
        for (int32_t r = 0; r < n; r++) {
            x[r * n_in + i] = ldexpf(x[r * n_in + i], power);
        }
        for (int32_t j = 0; j < n_out; j++) {
            W[i * n_out + j] = draw(20) ? ldexpf(W[i * n_out + j], dtype == WDT_FLOAT16 ? 0 : -power) : 0.0f;
        }
    }
    uint16_t *const half_W = to_half(W, dtype == WDT_FLOAT16 ? size : 0);
    void *const int8_W = dtype == WDT_INT8 ? to_int8(W, size, (int)draw(30)) : NULL;
    const void *const weights = dtype == WDT_INT8 ? int8_W : dtype == WDT_FLOAT16 ? (void *)half_W : (void *)W;
    const double most = dtype == WDT_INT8 ? 128.0 * (double)wdt_tensor_scale(int8_W, WDT_INT8) : 0.0;
    for (size_t j = 0; j < outputs; j++) {
        y[j] = add ? before[j] : NAN;
        before[j] = add ? before[j] : 0.0f;
    }
    float *const alone = malloc((size_t)n_out * sizeof *alone);
    CHECK(alone != NULL);
    wdt_kernels_in_use()->product(x, n, weights, dtype, n_in, n_out, add, y);
    for (int32_t r = 0; r < n; r++) { /* a row has the bits that it has alone */
        memcpy(alone, before + r * n_out, (size_t)n_out * sizeof *alone);
        wdt_kernels_in_use()->product(x + r * n_in, 1, weights, dtype, n_in, n_out, add, alone);
        CHECK(memcmp(alone, y + r * n_out, (size_t)n_out * sizeof *alone) == 0);
    }
    free(alone);
    for (int32_t r = 0; r < n; r++) {
        double reach = 0.0;
        for (int32_t i = 0; i < n_in; i++) {
            reach += fabs((double)x[r * n_in + i]) * fmax(most, (double)largest(W + i * n_out, (size_t)n_out));
        }
        check_sums(x + r * n_in, W, n_in, n_out, n_out, 1, before + r * n_out, reach, y + r * n_out);
    }
    for (size_t j = 0; j < outputs; j++) {
        y[j] = add ? before[j] : NAN;
    }
    wdt_kernels_in_use()->product_transposed(x, n, weights, dtype, n_in, n_out, add, y);
    for (int32_t r = 0; r < n; r++) {
        const double reach = n_in * (double)largest(x + r * n_in, (size_t)n_in) * (double)largest(W, size);
        check_sums(x + r * n_in, W, n_in, n_out, 1, n_in, before + r * n_out, reach, y + r * n_out);
    }
    free(x), free(W), free(y), free(half_W), free(int8_W), free(before);
}

/* All that a block of integers can be: |x| as large as can be and equal, weights of -128 and 127, and a scale of nothing. */
static void int8_products_do_not_overflow(void)
{
    enum { N = 64, OUT = 9 };
    struct { float scale; int8_t numbers[N * OUT]; } W = {.scale = 1e6f / 128.0f};
    float x[4 * N], y[4 * OUT];
    for (int32_t n = 1; n <= N; n++) {
        for (int32_t j = 0; j < n * OUT; j++) {
            W.numbers[j] = j % OUT % 2 ? 127 : -128;
        }
        for (int32_t j = 0; j < 4 * n; j++) {
            x[j] = n % 2 ? WDT_MAX_VALUE : -nextafterf(WDT_MAX_VALUE, 0.0f);
        }
        wdt_kernels_in_use()->product(x, 4, &W, WDT_INT8, n, OUT, 0, y);
        for (int j = 0; j < 4 * OUT; j++) {
            const double exact = (double)n * (double)x[0] * (double)W.scale * (j % OUT % 2 ? 127.0 : -128.0);
            CHECK(fabs((double)y[j] / exact - 1.0) <= ldexp(n + 1.0, -23));
        }
        memset(W.numbers, n % 2 ? -128 : 127, sizeof W.numbers);
        wdt_kernels_in_use()->product_transposed(x, 4, &W, WDT_INT8, n, OUT, 0, y);
        for (int j = 0; j < 4 * OUT; j++) {
            const double exact = (double)n * (double)x[0] * (double)W.scale * (n % 2 ? -128.0 : 127.0);
            CHECK(fabs((double)y[j] / exact - 1.0) <= ldexp(n + 1.0, -23));
        }
    }
    W.scale = 0.0f;
    wdt_kernels_in_use()->product(x, 4, &W, WDT_INT8, N, OUT, 0, y);
    CHECK(largest(y, 4 * OUT) == 0.0f);
}

static void int8_products_of_any_size_are_right(void)
{
    for (int round = 0; round < 150; round++) {
        check_product(1 + (int32_t)draw(6), 1 + (int32_t)draw(150), 1 + (int32_t)draw(50), WDT_INT8, (int)draw(3) * 20,
                      round % 2);
    }
    check_product(1, 64, 16, WDT_INT8, 0, 1), check_product(4, 65, 17, WDT_INT8, 20, 0);
    check_product(5, 128, 8, WDT_INT8, 0, 1);
    int8_products_do_not_overflow();
}

static void products_of_any_size_are_right(void)
{
    for (int round = 0; round < 2 * WDT_ROUNDS; round++) {
        check_product(1 + (int32_t)draw(6), 1 + (int32_t)draw(150), 1 + (int32_t)draw(50), round % 2,
                      (int)draw(3) * 20, round / 2 % 2);
    }
    check_product(1, 64, 16, 0, 0, 0), check_product(4, 65, 17, 0, 0, 1), check_product(5, 128, 8, 1, 0, 0);
    float y[3] = {1.0f, -2.0f, 3.0f}; /* the largest that a model's product can be, and the smallest */
    const float x[2] = {WDT_MAX_VALUE, -1e-44f}, W[6] = {1e6f, -1e6f, 1e-44f, 1e6f, 0.0f, 1e-30f};
    wdt_kernels_in_use()->product(x, 1, W, 0, 2, 3, 1, y);
    CHECK(fabsf(y[0] / 1e18f - 1.0f) < 1e-6f && fabsf(y[1] / -1e18f - 1.0f) < 1e-6f && fabsf(y[2] - 3.0f) < 1e10f);
    const float zeros[2] = {0.0f, -0.0f};
    float kept[3] = {1.0f, -2.0f, 3.0f};
    wdt_kernels_in_use()->product(zeros, 1, W, 0, 2, 3, 1, kept);
    CHECK(kept[0] == 1.0f && kept[1] == -2.0f && kept[2] == 3.0f);
}

int main(void)
{
    const char *names[WDT_MAX_INSTRUCTION_SETS];
    for (int set = wdt_instruction_sets(names) - 1; set >= 0; set--) {
        CHECK(wdt_use_instruction_set(names[set]) == WDT_OK);
        products_of_any_size_are_right();
        int8_products_of_any_size_are_right();
    }
    return 0;
}
